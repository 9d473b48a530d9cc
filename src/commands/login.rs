//! `login` and `logout`: credentials for a registry, checked, then kept where they will be found.

use std::io::{self, IsTerminal};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::{
    cli::options::{LoginOptions, LogoutOptions},
    error::{Context, Error, Result},
    fd, log,
    registry::{
        auth::{
            docker_config::{self, Credentials},
            login::Login,
        },
        client::Registries,
    },
    signal,
};

/// # Errors
/// If the registry refuses the credentials, or they cannot be kept.
pub fn login(options: &LoginOptions) -> Result<()> {
    let LoginOptions { connection, registry, user, quiet } = options;
    let config = connection.load_config()?;
    let password = password()?;
    let kept = config.auth_file.clone();
    let login = Login::Password { user: user.clone(), password: password.clone() };
    let credentials = Credentials::only(registry, login);
    let registries = std::sync::Arc::new(Registries::with(config, connection.policy, credentials)?);
    let shut = registries.clone();
    signal::on_request(move || shut.shutdown());
    let checked = registries.check_login(registry);
    signal::check()?;
    if !checked? {
        log::warn(format_args!("{registry} asks for no credentials, so these were not checked"));
    }
    let place = docker_config::store(kept.as_ref(), registry, user, &password)?;
    if !quiet {
        log::line(format_args!("ace-dt: logged in to {registry} as {user}; kept by {place}"));
    }
    Ok(())
}

/// # Errors
/// If there are no credentials, or they cannot be removed.
pub fn logout(options: &LogoutOptions) -> Result<()> {
    let LogoutOptions { connection, registry, quiet } = options;
    let config = connection.load_config()?;
    let places = docker_config::erase(config.auth_file.as_ref(), registry)?;
    if places.is_empty() {
        return Err(Error::new("there are no credentials for it").doing(format!("logging out of {registry}")));
    }
    if !quiet {
        log::line(format_args!("ace-dt: logged out of {registry}; taken out of {}", places.join(", ")));
    }
    Ok(())
}

/// The password on standard input: its one line.
fn password() -> Result<String> {
    let doing = "reading the password from standard input";
    let stdin = io::stdin();
    let bytes = match stdin.is_terminal() {
        true => from_terminal(&stdin).doing(|| doing)?,
        false => fd::stdin().and_then(fd::read_to_end).doing(|| doing)?,
    };
    let wrong = |why: &str| Error::usage(why).doing("the password on standard input");
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    let password = text.strip_suffix('\n').unwrap_or(&text);
    let password = password.strip_suffix('\r').unwrap_or(password);
    match password {
        "" => Err(wrong("it is empty")),
        several if several.contains('\n') => Err(wrong("it has several lines")),
        password => Ok(password.into()),
    }
}

/// Asks on the terminal, which does not show what is typed (termios(3), ECHO).
fn from_terminal(stdin: &io::Stdin) -> Result<Vec<u8>> {
    let shown = tcgetattr(stdin).doing(|| "asking the terminal")?;
    let mut hidden = shown.clone();
    hidden.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(stdin, SetArg::TCSAFLUSH, &hidden).doing(|| "asking the terminal")?;
    eprint!("Password: ");
    let (mut line, mut byte) = (Vec::new(), [0]);
    let outcome = loop {
        match io::Read::read(&mut stdin.lock(), &mut byte) {
            Ok(0) => break Ok(()),
            Ok(_) if byte == [b'\n'] => break Ok(()),
            Ok(_) => line.push(byte[0]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                if let Err(e) = signal::check() {
                    break Err(e);
                }
            }
            Err(e) => break Err(e).doing(|| "asking the terminal"),
        }
    };
    eprintln!();
    tcsetattr(stdin, SetArg::TCSAFLUSH, &shown).doing(|| "asking the terminal")?;
    outcome.map(|()| line)
}

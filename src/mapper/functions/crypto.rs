//! Passwords, as they are derived and encrypted elsewhere.

use aes::cipher::{BlockCipherDecrypt as _, KeyInit as _};
use base64::Engine as _;
use gotmpl::Value;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::{
    account::{Made, NamedFunction, spend, string},
    cast::string_of,
    encoding::text_in,
};

/// These functions.
pub(super) static FUNCTIONS: &[NamedFunction] =
    &[("derivePassword", 5, 5, derive), ("decryptAES", 2, 2, |a| decrypt(string_of(&a[0])?, string_of(&a[1])?))];

/// What one derivation costs, as bytes that are made: it takes some 100 ms.
const DERIVATION: u64 = 16 << 20;

/// The name of the algorithm, which goes into all that it hashes.
const SCOPE: &[u8] = b"com.lyndir.masterpassword";

/// Forms of passwords, each a letter a character class.
const FORMS: [(&str, &str); 6] = [
    ("maximum", "anoxxxxxxxxxxxxxxxxx axxxxxxxxxxxxxxxxxno"),
    (
        "long",
        "CvcvnoCvcvCvcv CvcvCvcvnoCvcv CvcvCvcvCvcvno CvccnoCvcvCvcv CvccCvcvnoCvcv CvccCvcvCvcvno CvcvnoCvccCvcv \
         CvcvCvccnoCvcv CvcvCvccCvcvno CvcvnoCvcvCvcc CvcvCvcvnoCvcc CvcvCvcvCvccno CvccnoCvccCvcv CvccCvccnoCvcv \
         CvccCvccCvcvno CvcvnoCvccCvcc CvcvCvccnoCvcc CvcvCvccCvccno CvccnoCvcvCvcc CvccCvcvnoCvcc CvccCvcvCvccno",
    ),
    ("medium", "CvcnoCvc CvcCvcno"),
    ("short", "Cvcn"),
    ("basic", "aaanaaan aannaaan aaannaaa"),
    ("pin", "nnnn"),
];

/// The characters of a class.
fn class(letter: u8) -> &'static [u8] {
    match letter {
        b'V' => b"AEIOU",
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'A' => b"AEIOUBCDFGHJKLMNPQRSTVWXYZ",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// The password of a site by the algorithm of Master Password: counter, form, master password, user, site.
fn derive(a: &[Value]) -> Made {
    spend(DERIVATION)?;
    let counter = u32::try_from(super::cast::index_of(&a[0])?).map_err(|_| "the counter has 32 bits")?;
    let (form, password, user, site) = (string_of(&a[1])?, string_of(&a[2])?, string_of(&a[3])?, string_of(&a[4])?);
    let forms = FORMS.iter().find(|(name, _)| *name == form).map(|(_, forms)| *forms);
    let forms: Vec<&str> = forms.ok_or_else(|| format!("{form:?} is no form of passwords"))?.split(' ').collect();
    let length = |text: &str| (text.len() as u32).to_be_bytes();
    let salt = [SCOPE, &length(user), user.as_bytes()].concat();
    let mut key = [0; 64];
    let parameters = scrypt::Params::new(15, 8, 2).map_err(|e| e.to_string())?;
    scrypt::scrypt(password.as_bytes(), &salt, &parameters, &mut key).map_err(|e| e.to_string())?;
    let mut hash = Hmac::<Sha256>::new_from_slice(&key).map_err(|e| e.to_string())?;
    for part in [SCOPE, &length(site), site.as_bytes(), &counter.to_be_bytes()] {
        hash.update(part);
    }
    let seed = hash.finalize().into_bytes();
    let form = forms[usize::from(seed[0]) % forms.len()];
    let letters = form.bytes().zip(&seed[1..]).map(|(letter, n)| {
        let class = class(letter);
        class[usize::from(*n) % class.len()] as char
    });
    Ok(string(letters.collect::<String>()))
}

/// What sprig's `encryptAES` made: base64 of an initialization vector and of AES-256 in CBC mode, padded as PKCS 7 has it.
fn decrypt(password: &str, encrypted: &str) -> Made {
    let bytes = base64::engine::general_purpose::STANDARD.decode(encrypted);
    let bytes = bytes.map_err(|e| format!("it is no base64: {e}"))?;
    if bytes.len() < 32 || bytes.len() % 16 != 0 {
        return Err(format!("{} bytes are no encrypted text", bytes.len()));
    }
    let mut key = [0; 32];
    password.bytes().take(32).enumerate().for_each(|(at, byte)| key[at] = byte);
    let cipher = aes::Aes256::new(&key.into());
    let mut plain = Vec::new();
    for (before, block) in bytes.chunks(16).zip(bytes.chunks(16).skip(1)) {
        let mut decrypted = aes::Block::try_from(block).map_err(|e| e.to_string())?;
        cipher.decrypt_block(&mut decrypted);
        plain.extend(decrypted.iter().zip(before).map(|(a, b)| a ^ b));
    }
    let padding = usize::from(plain[plain.len() - 1]);
    if !(1..=16).contains(&padding) || plain[plain.len() - padding..].iter().any(|b| usize::from(*b) != padding) {
        return Err("the password is wrong, or the text is damaged".into());
    }
    plain.truncate(plain.len() - padding);
    text_in(plain)
}

//! `util prune`: the cache, brought down to what it may hold.

use crate::{
    cli::args::Args,
    error::{Error, Result},
    log,
    store::cache,
    util::units::human_size,
};

pub fn run(args: &Args) -> Result<()> {
    let config = args.load_config()?;
    let dir = config.cache.ok_or_else(|| Error::usage("which cache? give --cache or the key cachePath"))?;
    let pruned = cache::prune(&dir, config.cache_prune_max)?;
    if !args.progress.quiet {
        log::line(format_args!(
            "ace-dt: removed {} files of {}; {} are left in {}",
            pruned.files,
            human_size(pruned.bytes),
            human_size(pruned.left),
            dir.display()
        ));
    }
    Ok(())
}

//! `util prune`: the cache, brought down to what it may hold.

use crate::{
    cli::options::PruneOptions,
    error::{Error, Result},
    log,
    store::cache,
    util::units::human_size,
};

/// # Errors
/// If no cache is named, or it cannot be pruned.
pub fn run(options: &PruneOptions) -> Result<()> {
    let config = options.connection.load_config()?;
    let dir = config.cache.ok_or_else(|| Error::usage("which cache? give --cache or the key cachePath"))?;
    let pruned = cache::prune(&dir, config.cache_prune_max)?;
    if !options.quiet {
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

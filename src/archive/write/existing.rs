//! What is at the destination already, and is left out: by ledgers, and by existing images.

use std::{collections::HashSet, ffi::OsString};

use crate::gather::collect::below;
use crate::{
    archive::checkpoint,
    cli::args::Args,
    error::{Context, Error, Result},
    gather::{self, sources::Source},
    oci::{Digest, media},
    signal,
    store::Store,
};

#[derive(Default)]
pub struct There {
    /// By the ledgers: blobs and manifests.
    pub on_media: HashSet<Digest>,
    /// By the existing images: blobs, not manifests.
    pub blobs: HashSet<Digest>,
}

impl There {
    /// Reads the ledgers. Nothing is written before this is done.
    pub fn by_ledgers(args: &Args) -> Result<There> {
        let mut there = There::default();
        for (path, offset) in &args.existing_from_checkpoint {
            there.on_media.extend(checkpoint::read(path, *offset)?);
        }
        Ok(there)
    }

    /// Adds what `images` hold.
    pub fn add_images(&mut self, images: &[OsString], args: &Args, store: &dyn Store, threads: usize) -> Result<()> {
        self.blobs.extend(There::blobs_of(images, args, store, threads)?);
        Ok(())
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.on_media.contains(digest) || self.blobs.contains(digest)
    }

    /// Digests of the configurations and layers of the existing images.
    fn blobs_of(images: &[OsString], args: &Args, store: &dyn Store, threads: usize) -> Result<HashSet<Digest>> {
        let mut existing = Vec::new();
        for operand in images {
            let written = operand.to_str().ok_or_else(|| Error::usage(format!("{operand:?} is not UTF-8")))?;
            let locator = written.parse().map_err(|why: String| Error::usage(why).doing("existing image"))?;
            existing.push(Source { written: written.into(), locator, labels: Default::default() });
        }
        let options = gather::Options { platforms: &[], recursive: args.recursive, threads, progress: &|_, _, _| () };
        let (graph, found) = gather::gather(store, existing, &options);
        let mut blobs = HashSet::new();
        for image in found {
            for pick in signal::check().and(image.picks).doing(|| "existing image")? {
                blobs.extend(
                    below(&graph, &pick, args.recursive)?
                        .into_iter()
                        .filter_map(|(digest, (d, _))| (!media::is_manifest(&d.media_type)).then_some(digest)),
                );
            }
        }
        Ok(blobs)
    }
}

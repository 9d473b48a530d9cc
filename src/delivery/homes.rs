//! The destinations of a run: repositories of one or several registries.
//!
//! In each registry a blob has one home, where it is sent once; from there it is mounted into every other repository that
//! needs it. A registry that refuses that gets it again, out of its content as long as that is at hand, or else out of a
//! repository that has it.

mod origins;
mod others;

use std::{
    collections::{HashMap, HashSet},
    io::Read,
    sync::{Arc, Condvar, Mutex, PoisonError, RwLock},
};

use self::origins::AskedOrigin;
use super::content::{SharedContent, SharedPart};
use crate::{
    error::{Error, Result},
    log,
    oci::{Descriptor, Digest, Repository},
    store::target::{BlobContent, MemoryContent, Target},
};

/// A blob goes to so many destinations at once.
const AT_ONCE: usize = 8;

/// Makes the target of a repository.
pub type MakeTarget<'a> = dyn Fn(&Repository) -> Box<dyn Target + 'a> + Sync + 'a;

type HeldTarget<'a> = Arc<dyn Target + 'a>;

/// The destinations, each with its number, from 0 on.
pub struct Homes<'a> {
    make: &'a MakeTarget<'a>,
    known: RwLock<KnownHomes<'a>>,
    /// Manifests that are being put somewhere.
    busy: Mutex<HashSet<(Repository, Digest)>>,
    freed: Condvar,
}

#[derive(Default)]
struct KnownHomes<'a> {
    targets: Vec<HeldTarget<'a>>,
    numbers: HashMap<Repository, u32>,
    /// Registries of which is known whether they mount.
    mounts: HashMap<String, bool>,
    /// Repositories that are no destinations, and had things once.
    origins: HashMap<Repository, Arc<AskedOrigin<'a>>>,
}

/// What is wanted of a blob.
pub struct WantedBlob<'a> {
    /// Which one.
    pub descriptor: &'a Descriptor,
    /// Destinations that need it.
    pub needed: &'a [u32],
    /// Destinations that have it.
    pub there: &'a [u32],
    /// It is known that the others have it not.
    pub was_asked: bool,
    /// This run has sent it to those that have it, so that others hardly have it.
    pub is_sent: bool,
    /// Every destination is asked, not only the first of each registry.
    pub everywhere: bool,
    /// What one has and cannot be mounted is fetched there and sent to the others, if there is no content.
    pub may_copy: bool,
    /// Where it comes from, if that is a repository.
    pub origin: Option<BlobOrigin<'a>>,
}

/// Threads that have nothing to do may be had, so that as many requests are in flight as may be.
pub trait Crew: Sync {
    /// Takes at most so many of them. Returns how many.
    fn hire(&self, most: usize) -> usize;

    /// Gives so many back.
    fn dismiss(&self, count: usize);
}

/// Threads that are given back.
struct Hired<'a> {
    crew: &'a dyn Crew,
    count: usize,
}

impl Drop for Hired<'_> {
    fn drop(&mut self) {
        self.crew.dismiss(self.count);
    }
}

/// A repository that is no destination, and has a blob.
#[derive(Clone, Copy)]
pub struct BlobOrigin<'a> {
    /// Which one.
    pub repository: &'a Repository,
    /// It surely has the blob; otherwise it had it once.
    pub is_sure: bool,
}

/// A manifest that is to be put somewhere.
pub struct ManifestPush<'a> {
    /// Which one.
    pub descriptor: &'a Descriptor,
    /// Its bytes, if they are in memory.
    pub bytes: Option<Arc<[u8]>>,
    /// What it refers to from outside.
    pub subject: Option<&'a Digest>,
    /// Destinations that have it.
    pub from: &'a [u32],
    /// Others may have it, too, and are asked.
    pub may_be_there: bool,
}

/// Where a blob is.
#[derive(Debug, Default)]
pub struct SettledBlob {
    /// Destinations that have it now.
    pub there: Vec<u32>,
    /// How often it was sent.
    pub sent: usize,
    /// How often it was mounted.
    pub mounted: usize,
    /// A destination that was asked had it not.
    pub was_absent: bool,
    /// Why not all have it that need it.
    pub failure: Option<Error>,
}

impl SettledBlob {
    fn fails(&mut self, e: Error) {
        self.failure.get_or_insert(e);
    }
}

impl<'a> Homes<'a> {
    /// None so far.
    pub fn new(make: &'a MakeTarget<'a>) -> Homes<'a> {
        Homes { make, known: RwLock::default(), busy: Mutex::default(), freed: Condvar::new() }
    }

    /// The number of a repository, a new one if need be.
    pub fn number(&self, repository: &Repository) -> u32 {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = known.numbers.get(repository) {
            return number;
        }
        let number = known.targets.len() as u32;
        known.targets.push((self.make)(repository).into());
        known.numbers.insert(repository.clone(), number);
        number
    }

    fn target(&self, number: u32) -> HeldTarget<'a> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).targets[number as usize].clone()
    }

    /// Puts a manifest somewhere, alone: distribution 2.8 refuses now and then one that is put twice at the same time.
    fn alone<T>(&self, at: &Repository, descriptor: &Descriptor, put: impl FnOnce() -> T) -> T {
        let busy = || self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (at.clone(), descriptor.digest.clone());
        let mut held = busy();
        while held.contains(&key) {
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        held.insert(key.clone());
        drop(held);
        let done = put();
        busy().remove(&key);
        self.freed.notify_all();
        done
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.known.read().unwrap_or_else(PoisonError::into_inner).targets.len() as u32
    }

    /// The repository of this number.
    pub fn repository(&self, number: u32) -> Repository {
        self.target(number).repository().clone()
    }

    /// Destinations by registry, in the order in which they are named.
    fn by_registry(&self, numbers: &[u32]) -> Vec<Vec<u32>> {
        let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
        for &number in numbers {
            let registry = self.repository(number).registry;
            match groups.iter_mut().find(|(name, _)| *name == registry) {
                Some((_, group)) => group.push(number),
                None => groups.push((registry, vec![number])),
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Brings a blob to where it is needed: it is asked for, mounted, and, if there is `content`, sent.
    pub fn settle(&self, wanted: &WantedBlob, content: Option<&dyn SharedContent>, crew: &dyn Crew) -> SettledBlob {
        let mut settled = SettledBlob { there: wanted.there.to_vec(), ..SettledBlob::default() };
        let (mut senders, mut later): (Vec<u32>, Vec<(u32, Vec<u32>)>) = (Vec::new(), Vec::new());
        for group in self.by_registry(wanted.needed) {
            let lacking = match self.look_and_mount(wanted, &group, crew, &mut settled) {
                Ok(lacking) => lacking,
                Err(e) => {
                    settled.fails(e);
                    continue;
                }
            };
            // At the end, when no content comes any more.
            let is_last = wanted.everywhere && content.is_none();
            let lacking = if is_last { self.take_from_others(wanted, lacking, &mut settled) } else { lacking };
            let Some((&home, others)) = lacking.split_first() else { continue };
            // Where mounts are refused, or where nothing shows that they are not, a stream passes only once.
            let has_home = group.iter().any(|number| settled.there.contains(number));
            if has_home || content.is_some_and(|content| content.passes_once()) && !self.mounts(home, others) {
                senders.extend(&lacking);
            } else {
                senders.push(home);
                later.push((home, others.to_vec()));
            }
        }
        match content {
            Some(content) => {
                self.send(wanted.descriptor, content, &senders, &mut settled);
                for (home, others) in later {
                    if !settled.there.contains(&home) {
                        continue;
                    }
                    for other in self.mount(wanted.descriptor, &self.repository(home), others, crew, &mut settled) {
                        match content.readable_from() {
                            0 => self.send(wanted.descriptor, content, &[other], &mut settled),
                            _ => self.copy(wanted.descriptor, home, other, &mut settled),
                        }
                    }
                }
            }
            None if wanted.may_copy => {
                for other in senders.into_iter().chain(later.into_iter().flat_map(|(_, others)| others)) {
                    let Some(&from) = settled.there.first() else { break };
                    self.copy(wanted.descriptor, from, other, &mut settled);
                }
            }
            None => {}
        }
        settled
    }

    /// Destinations of one registry: those that have a blob are found, and those are returned that lack it and into which
    /// it cannot be mounted yet.
    fn look_and_mount(
        &self,
        wanted: &WantedBlob,
        group: &[u32],
        crew: &dyn Crew,
        settled: &mut SettledBlob,
    ) -> Result<Vec<u32>> {
        let descriptor = wanted.descriptor;
        let registry = self.repository(group[0]).registry;
        let origin = wanted.origin.filter(|origin| origin.repository.registry == registry);
        let is_origin = |&number: &u32| {
            origin.is_some_and(|origin| origin.is_sure && *origin.repository == self.repository(number))
        };
        let open = group.iter().filter(|number| !settled.there.contains(number));
        let (there, mut lacking): (Vec<u32>, Vec<u32>) = open.partition(|number| is_origin(number));
        settled.there.extend(there);
        let is_there = |settled: &SettledBlob| group.iter().find(|number| settled.there.contains(number)).copied();
        let is_known = if is_there(settled).is_some() { wanted.is_sent } else { wanted.was_asked };
        if !is_known && !wanted.everywhere && is_there(settled).is_none() && !lacking.is_empty() {
            // Where the first has it not, others hardly have it. That from which it was gathered comes first.
            lacking.sort_by_key(|&number| origin.is_none_or(|origin| *origin.repository != self.repository(number)));
            let others = lacking.split_off(1);
            lacking = self.ask(descriptor, lacking, crew, settled)?;
            lacking.extend(match is_there(settled) {
                Some(_) => self.ask(descriptor, others, crew, settled)?,
                None => others,
            });
        } else if !is_known || wanted.everywhere {
            lacking = self.ask(descriptor, lacking, crew, settled)?;
        }
        let home = is_there(settled).map(|home| self.repository(home));
        let is_asked = |origin: &BlobOrigin| group.iter().any(|&n| *origin.repository == self.repository(n));
        let origin =
            origin.filter(|origin| home.is_none() && !lacking.is_empty() && (origin.is_sure || !is_asked(origin)));
        let origin = origin.filter(|origin| self.origin_has(origin, descriptor));
        let Some(from) = home.or(origin.map(|origin| origin.repository.clone())) else { return Ok(lacking) };
        let lacking = self.mount(descriptor, &from, lacking, crew, settled);
        if let Some(origin) = origin.filter(|origin| !origin.is_sure && !lacking.is_empty()) {
            self.is_refused(origin.repository);
        }
        Ok(lacking)
    }

    /// Asks destinations for a blob. Returns those that lack it.
    fn ask(
        &self,
        descriptor: &Descriptor,
        mut asked: Vec<u32>,
        crew: &dyn Crew,
        settled: &mut SettledBlob,
    ) -> Result<Vec<u32>> {
        let found = self.each(&asked, crew, |target| target.exists(descriptor));
        let (mut found, mut failure) = (found.into_iter(), None);
        asked.retain(|&number| match found.next() {
            Some(Ok(true)) => {
                settled.there.push(number);
                false
            }
            Some(Err(e)) => {
                failure.get_or_insert(e);
                true
            }
            _ => {
                settled.was_absent = true;
                true
            }
        });
        failure.map_or(Ok(asked), Err)
    }

    /// Mounts a blob into destinations. Returns those into which it cannot be.
    fn mount(
        &self,
        descriptor: &Descriptor,
        from: &Repository,
        mut into: Vec<u32>,
        crew: &dyn Crew,
        settled: &mut SettledBlob,
    ) -> Vec<u32> {
        let mut mounted = self.each(&into, crew, |target| target.mount(descriptor, from)).into_iter();
        into.retain(|&number| {
            let is_mounted = mounted.next() == Some(true);
            if is_mounted {
                settled.mounted += 1;
                settled.there.push(number);
            }
            !is_mounted
        });
        into
    }

    /// Does something at each destination, at several at once as far as there are hands.
    fn each<T: Send>(&self, numbers: &[u32], crew: &dyn Crew, act: impl Fn(&dyn Target) -> T + Sync) -> Vec<T> {
        let mut done = Vec::with_capacity(numbers.len());
        while let Some((&own, others)) = numbers[done.len()..].split_first() {
            let hired = Hired { crew, count: crew.hire(others.len()) };
            std::thread::scope(|scope| {
                let act = &act;
                let others =
                    others[..hired.count].iter().map(|&number| scope.spawn(move || act(&*self.target(number))));
                let others: Vec<_> = others.collect();
                done.push(act(&*self.target(own)));
                let resume = |panic| std::panic::resume_unwind(panic);
                done.extend(others.into_iter().map(|other| other.join().unwrap_or_else(resume)));
            });
        }
        done
    }

    /// Whether the registry of these destinations mounts what one of them has into another.
    fn mounts(&self, home: u32, others: &[u32]) -> bool {
        let Some(&other) = others.first() else { return true };
        let registry = self.repository(home).registry;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).mounts.get(&registry).copied();
        if let Some(known) = known {
            return known;
        }
        // The empty blob of the image specification is the least that can show it.
        let probe = Descriptor::new("application/vnd.oci.empty.v1+json", Digest::of(b"{}"), 2);
        let (home, other) = (self.target(home), self.target(other));
        let shows = || -> Result<bool> {
            if !home.exists(&probe)? {
                home.push_blob(&probe, &MemoryContent(b"{}"))?;
            }
            Ok(other.mount(&probe, home.repository()))
        };
        let mounts = shows().unwrap_or(false);
        self.known.write().unwrap_or_else(PoisonError::into_inner).mounts.insert(registry, mounts);
        mounts
    }

    /// Sends a blob to several destinations at once.
    fn send(&self, descriptor: &Descriptor, content: &dyn SharedContent, to: &[u32], settled: &mut SettledBlob) {
        // What can be read again need not go to all at once.
        let most = if content.passes_once() { to.len().max(1) } else { AT_ONCE };
        to.chunks(most).for_each(|some| self.send_at_once(descriptor, content, some, settled));
    }

    fn send_at_once(
        &self,
        descriptor: &Descriptor,
        content: &dyn SharedContent,
        to: &[u32],
        settled: &mut SettledBlob,
    ) {
        let targets: Vec<_> = to.iter().map(|&number| self.target(number)).collect();
        let mut outcomes = Vec::new();
        content.with_parts(targets.len(), &mut |parts| {
            outcomes = match parts {
                [only] => vec![targets[0].push_blob(descriptor, *only)],
                _ => std::thread::scope(|scope| {
                    let all = targets.iter().zip(parts).map(|(target, part)| {
                        let part: &dyn SharedPart = *part;
                        scope.spawn(move || {
                            let pushed = target.push_blob(descriptor, part);
                            part.leave();
                            pushed
                        })
                    });
                    let all: Vec<_> = all.collect();
                    let panicked = || Error::new("a thread that sends has panicked");
                    all.into_iter().map(|one| one.join().unwrap_or_else(|_| Err(panicked()))).collect()
                }),
            };
        });
        for (&number, outcome) in to.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    settled.sent += 1;
                    settled.there.push(number);
                }
                Err(e) => settled.fails(e),
            }
        }
    }

    /// Sends a blob from one destination, which has it, to another.
    fn copy(&self, descriptor: &Descriptor, from: u32, to: u32, settled: &mut SettledBlob) {
        let (from, target) = (self.target(from), self.target(to));
        log::debug(format_args!(
            "blob {} goes from {} to {}",
            descriptor.digest,
            from.repository(),
            target.repository()
        ));
        match target.push_blob(descriptor, &HomeContent { target: &from, descriptor }) {
            Ok(()) => {
                settled.sent += 1;
                settled.there.push(to);
            }
            Err(e) => settled.fails(e),
        }
    }

    /// Puts a manifest at these destinations. Returns at how many it was not yet.
    ///
    /// # Errors
    /// If a destination does not take it.
    pub fn push_manifest(&self, push: ManifestPush, to: &[u32], crew: &dyn Crew) -> Result<usize> {
        let ManifestPush { descriptor, bytes, subject, from, may_be_there } = push;
        let is_there = |target: &dyn Target| {
            // What refers to something may be there and not be listed.
            let is_listed = |subject: &Digest| target.lists_referrer(subject, &descriptor.digest).unwrap_or(false);
            may_be_there && target.has_manifest(descriptor).unwrap_or(false) && subject.is_none_or(is_listed)
        };
        let found = self.each(to, crew, is_there);
        let lacking: Vec<u32> = to.iter().zip(found).filter(|(_, is_there)| !is_there).map(|(&at, _)| at).collect();
        if lacking.is_empty() {
            return Ok(0);
        }
        let bytes = match bytes {
            Some(bytes) => Some(bytes),
            None => self.fetch(descriptor, &[from, to].concat())?,
        };
        let bytes = bytes.ok_or_else(|| Error::new("it was kept there, and is gone"))?;
        let put = |target: &dyn Target| {
            self.alone(target.repository(), descriptor, || target.push_manifest(descriptor, &bytes))
        };
        self.each(&lacking, crew, put).into_iter().try_for_each(|put| put)?;
        Ok(lacking.len())
    }

    /// A manifest that one of these destinations has, also if only as a blob.
    ///
    /// # Errors
    /// If that cannot be found out.
    pub fn fetch(&self, descriptor: &Descriptor, at: &[u32]) -> Result<Option<Arc<[u8]>>> {
        for &number in at {
            if let Some(bytes) = self.target(number).fetch(descriptor)? {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// Keeps a manifest as a blob at these destinations.
    ///
    /// # Errors
    /// As [`Target::keep`].
    pub fn keep(&self, descriptor: &Descriptor, bytes: &Arc<[u8]>, at: &[u32]) -> Result<()> {
        at.iter().try_for_each(|&number| self.target(number).keep(descriptor, bytes))
    }

    /// Puts a manifest that is there under a tag.
    ///
    /// # Errors
    /// As [`Target::tag`].
    pub fn tag(&self, descriptor: &Descriptor, bytes: Option<Arc<[u8]>>, at: u32, tag: &str) -> Result<()> {
        let bytes = match bytes {
            Some(bytes) => Some(bytes),
            None => self.fetch(descriptor, &[at])?,
        };
        match bytes {
            Some(bytes) => {
                let target = self.target(at);
                self.alone(target.repository(), descriptor, || target.tag(descriptor, &bytes, tag))
            }
            None => Err(Error::new(format!("manifest {} was pushed, and is gone", descriptor.digest))),
        }
    }

    /// Looks whether a destination has a manifest, under its digest or a tag.
    ///
    /// # Errors
    /// If it has another one there, or none, or cannot be asked.
    pub fn look(&self, descriptor: &Descriptor, at: u32, tag: Option<&str>) -> Result<()> {
        self.target(at).look(descriptor, tag)
    }

    /// Upload sessions that are open: where, of which blob, and where each goes on.
    pub fn sessions(&self) -> Vec<(Repository, Digest, String)> {
        let all = 0..self.count();
        let of = |number| {
            let target = self.target(number);
            let repository = target.repository().clone();
            target.sessions().into_iter().map(move |(digest, url)| (repository.clone(), digest, url))
        };
        all.flat_map(of).collect()
    }

    /// Goes on with sessions of an earlier run.
    pub fn take_up(&self, sessions: Vec<(Repository, Digest, String)>) {
        for (repository, digest, url) in sessions {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner).numbers.get(&repository).copied();
            known.into_iter().for_each(|number| self.target(number).take_up(vec![(digest.clone(), url.clone())]));
        }
    }
}

/// A blob that a destination has.
struct HomeContent<'a, 'b> {
    target: &'a HeldTarget<'b>,
    descriptor: &'a Descriptor,
}

impl BlobContent for HomeContent<'_, '_> {
    fn open(&self, from: u64) -> Result<Box<dyn Read + '_>> {
        self.target.blob(self.descriptor, from)
    }
}

//! A part of a blob on its way to a client.

use std::{
    io::{self, ErrorKind as IoErrorKind, Read, Write as _},
    sync::{
        MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::{errno::Errno, sys::sendfile::sendfile64};

use super::{
    connections::ConnectionPlace,
    content::{BlobCopy, Condition, FilePiece, Held},
    wire::Wire,
};
use crate::{
    error::{Error, Result},
    log,
    oci::Digest,
};

/// Hashed or sent at once.
const PIECE: usize = 64 << 10;
const SENT_AT_ONCE: u64 = 128 << 10;
/// Who waits for another that reads looks so often.
const LOOK: Duration = Duration::from_millis(10);
/// And so many may wait: each holds a place among the requests in work.
const WAITING_MAX: usize = 64;
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A part of a blob that is sent, opened.
pub struct BlobPart<'a> {
    digest: &'a Digest,
    held: &'a Held,
    /// Where the part begins.
    from: u64,
    /// How many bytes it has.
    len: u64,
    /// So many of them were sent.
    sent: u64,
    opened: OpenedPart,
}

/// What of a blob is open.
enum OpenedPart {
    /// All of one that nobody has read, and which copy of it.
    Unchecked(Box<dyn Read + Send>, BlobCopy),
    /// A part of one that nobody has read: nothing is open.
    PartUnchecked,
    /// The file in which the part begins, if it lies in one, with place and length.
    InFile(Option<(FilePiece, u64, u64)>),
}

fn failed(e: Error) -> io::Error {
    io::Error::other(e)
}

impl<'a> BlobPart<'a> {
    /// Opens `len` bytes from `from` on.
    ///
    /// # Errors
    /// If they cannot be.
    pub fn open(digest: &'a Digest, held: &'a Held, from: u64, len: u64) -> Result<BlobPart<'a>> {
        let opened = match held.condition() {
            Condition::Sound => OpenedPart::InFile(held.in_file(from)?),
            _ if len < held.size() => OpenedPart::PartUnchecked,
            _ => {
                let copy = held.copy();
                let opened = held.open(0).inspect_err(|_| {
                    // The next who asks gets another copy, if there is one.
                    if held.copies() > 1 {
                        held.is_checked(false, copy);
                    }
                });
                OpenedPart::Unchecked(opened?, copy)
            }
        };
        Ok(BlobPart { digest, held, from, len, sent: 0, opened })
    }

    /// How many of its bytes were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends it. What nobody has read to its end is hashed: all of it on the way, and the last byte is sent when the digest
    /// proves right; a part when all was read.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or the connection ends.
    pub fn send(&mut self, wire: &mut Wire, place: &ConnectionPlace) -> io::Result<()> {
        let done = match std::mem::replace(&mut self.opened, OpenedPart::InFile(None)) {
            OpenedPart::InFile(piece) => return self.send_sound(piece, wire, place),
            OpenedPart::Unchecked(content, copy) => self.send_unchecked(content, copy, wire, place),
            OpenedPart::PartUnchecked => self.check(place),
        };
        done?;
        // What was read for a part is sent now.
        match self.sent < self.len {
            true => self.send_sound(self.held.in_file(self.from).map_err(failed)?, wire, place),
            false => Ok(()),
        }
    }

    /// Something of the blob cannot be read: that is told, and not what the client did.
    fn unreadable(&self, e: io::Error) -> io::Error {
        log::warn(format_args!("blob {} cannot be read: {e}; its connection was ended", self.digest));
        e
    }

    fn send_sound(
        &mut self,
        mut next: Option<(FilePiece, u64, u64)>,
        wire: &mut Wire,
        place: &ConnectionPlace,
    ) -> io::Result<()> {
        while let Wire::Plain(socket) = wire
            && let Some((piece, offset, here)) = next.take()
        {
            let (mut at, end) = (offset as i64, (offset + here.min(self.len - self.sent)) as i64);
            while at < end {
                let most = (end - at).min(SENT_AT_ONCE as i64) as usize;
                match sendfile64(&*socket.socket, piece.file(), Some(&mut at), most) {
                    Ok(0) => return Err(self.unreadable(IoErrorKind::UnexpectedEof.into())),
                    Ok(n) => {
                        self.sent += n as u64;
                        place.is_active();
                    }
                    Err(Errno::EINTR) => {}
                    Err(e @ Errno::EIO) => return Err(self.unreadable(e.into())),
                    Err(e) => return Err(e.into()),
                }
            }
            if self.sent < self.len {
                next = self.held.in_file(self.from + self.sent).map_err(failed)?;
            }
        }
        if self.sent == self.len {
            return Ok(());
        }
        let mut content = self.held.open(self.from + self.sent).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        while self.sent < self.len {
            let most = (self.len - self.sent).min(piece.len() as u64) as usize;
            match content.read(&mut piece[..most]).map_err(|e| self.unreadable(e))? {
                0 => return Err(self.unreadable(IoErrorKind::UnexpectedEof.into())),
                n => {
                    wire.write_all(&piece[..n])?;
                    self.sent += n as u64;
                    place.is_active();
                }
            }
        }
        Ok(())
    }

    /// Sends all of it while it is hashed.
    fn send_unchecked(
        &mut self,
        content: Box<dyn Read + Send>,
        copy: BlobCopy,
        wire: &mut Wire,
        place: &ConnectionPlace,
    ) -> io::Result<()> {
        let (mut kept, mut sent) = (None, 0);
        let all = copy.size;
        if all != self.len {
            // Another copy has taken its place since the head was sent.
            return Err(IoErrorKind::InvalidData.into());
        }
        let outcome = self.read_all(content, copy, place, &mut |piece| {
            let is_last = sent + piece.len() as u64 == all;
            let now = if is_last { &piece[..piece.len() - 1] } else { piece };
            kept = piece.last().copied().filter(|_| is_last);
            wire.write_all(now)?;
            sent += now.len() as u64;
            Ok(())
        });
        self.sent = sent;
        outcome?;
        if let Some(byte) = kept {
            wire.write_all(&[byte])?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Reads all of a blob of which only a part is to be sent. If several are asked for, one reads for all of them.
    fn check(&self, place: &ConnectionPlace) -> io::Result<()> {
        let _one = match self.held.reading() {
            Some(one) => one,
            None => {
                let is_too_many = WAITING.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX;
                let waited = if is_too_many { None } else { self.wait(place) };
                WAITING.fetch_sub(1, Ordering::Relaxed);
                waited.ok_or(IoErrorKind::ConnectionAborted)?
            }
        };
        let mut read = Err(IoErrorKind::InvalidData.into());
        for _ in 0..self.held.copies() {
            match self.held.condition() {
                Condition::Sound => return Ok(()),
                Condition::Damaged => break,
                Condition::Unchecked => {}
            }
            let copy = self.held.copy();
            read = self.read_all(self.held.open(0).map_err(failed)?, copy, place, &mut |_| Ok(()));
            if !read.as_ref().is_err_and(|e| e.kind() == IoErrorKind::InvalidData) {
                break;
            }
        }
        read
    }

    /// Waits until nobody else reads all of it; `None` if nobody waits for the answer any more.
    fn wait(&self, place: &ConnectionPlace) -> Option<MutexGuard<'a, ()>> {
        while !place.is_given_up() {
            place.is_active();
            match self.held.reading() {
                Some(one) => return Some(one),
                None => thread::sleep(LOOK),
            }
        }
        None
    }

    /// Reads all of it and notes whether it is sound; `each` gets its pieces.
    fn read_all(
        &self,
        mut content: Box<dyn Read + Send>,
        copy: BlobCopy,
        place: &ConnectionPlace,
        each: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut hasher, mut piece, mut at) = (self.digest.hasher(), vec![0; PIECE], 0);
        while at < copy.size {
            let n = match content.read(&mut piece) {
                Ok(0) => {
                    self.is_damaged(copy);
                    return Err(IoErrorKind::InvalidData.into());
                }
                Ok(n) => n,
                Err(e) if e.kind() == IoErrorKind::Interrupted => continue,
                Err(e) => {
                    // What a decoder refuses is damaged; what the system cannot read may be read later.
                    if e.raw_os_error().is_none() || self.held.copies() > 1 {
                        self.is_damaged(copy);
                        return Err(IoErrorKind::InvalidData.into());
                    }
                    return Err(self.unreadable(e));
                }
            };
            if place.is_given_up() {
                return Err(IoErrorKind::ConnectionAborted.into());
            }
            hasher.update(&piece[..n]);
            each(&piece[..n])?;
            place.is_active();
            at += n as u64;
        }
        if hasher.finish() == *self.digest {
            self.held.is_checked(true, copy);
            return Ok(());
        }
        self.is_damaged(copy);
        Err(IoErrorKind::InvalidData.into())
    }

    fn is_damaged(&self, copy: BlobCopy) {
        self.held.is_checked(false, copy);
        let then = match self.held.condition() {
            Condition::Unchecked if self.held.copies() > 1 => "another copy of it is read from now on",
            _ => "its connection was ended",
        };
        log::warn(format_args!("blob {} is damaged; {then}", self.digest));
    }
}

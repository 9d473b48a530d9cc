//! A part of a blob on its way to a client.

use std::io::{self, ErrorKind as IoErrorKind, Read, Write as _};

use nix::{errno::Errno, sys::sendfile::sendfile64};

use super::{
    connections::ConnectionPlace,
    content::{Condition, FilePiece, Held},
    wire::Wire,
};
use crate::{
    error::{Error, Result},
    log,
    media::files::FileStamp,
    oci::Digest,
};

/// Hashed or sent at once.
const PIECE: usize = 64 << 10;
const SENT_AT_ONCE: u64 = 128 << 10;

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
    /// All of one that nobody has read, and the stamp that its file had before.
    Unchecked(Box<dyn Read + Send>, Option<FileStamp>),
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
            _ => {
                let stamp = held.stamp();
                OpenedPart::Unchecked(held.open(0)?, stamp)
            }
        };
        Ok(BlobPart { digest, held, from, len, sent: 0, opened })
    }

    /// How many of its bytes were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends it. What nobody has read to its end is hashed, and the last byte is sent when the digest proves right.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or the connection ends.
    pub fn send(&mut self, wire: &mut Wire, place: &ConnectionPlace) -> io::Result<()> {
        match std::mem::replace(&mut self.opened, OpenedPart::InFile(None)) {
            OpenedPart::InFile(piece) => self.send_sound(piece, wire, place),
            OpenedPart::Unchecked(content, stamp) => {
                let sent = self.send_unchecked(content, stamp, wire, place);
                if self.held.condition() == Condition::Damaged {
                    log::warn(format_args!("blob {} is damaged; its connection was ended", self.digest));
                }
                sent
            }
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

    fn send_unchecked(
        &mut self,
        mut content: Box<dyn Read + Send>,
        stamp: Option<FileStamp>,
        wire: &mut Wire,
        place: &ConnectionPlace,
    ) -> io::Result<()> {
        let (mut hasher, mut piece, mut at) = (self.digest.hasher(), vec![0; PIECE], 0);
        // The last byte, until the digest proves right.
        let (last, mut kept) = ((self.from + self.len).saturating_sub(1), None);
        while at < self.held.size {
            let n = match content.read(&mut piece) {
                Ok(0) => {
                    self.held.is_checked(false, stamp);
                    return Err(IoErrorKind::UnexpectedEof.into());
                }
                Ok(n) => n,
                Err(e) if e.kind() == IoErrorKind::Interrupted => continue,
                Err(e) => {
                    // What a decoder refuses is damaged; what the system cannot read may be read later.
                    if e.raw_os_error().is_none() {
                        self.held.is_checked(false, stamp);
                    }
                    return Err(self.unreadable(e));
                }
            };
            if place.is_given_up() {
                return Err(IoErrorKind::ConnectionAborted.into());
            }
            hasher.update(&piece[..n]);
            let end = at + n as u64;
            let wanted = self.from.clamp(at, end) - at..last.clamp(at, end) - at;
            if !wanted.is_empty() {
                let wanted = &piece[wanted.start as usize..wanted.end as usize];
                wire.write_all(wanted)?;
                self.sent += wanted.len() as u64;
            }
            if self.len > 0 && (at..end).contains(&last) {
                kept = Some(piece[(last - at) as usize]);
            }
            place.is_active();
            at = end;
        }
        let is_sound = hasher.finish() == *self.digest;
        self.held.is_checked(is_sound, stamp);
        match kept {
            _ if !is_sound => Err(IoErrorKind::InvalidData.into()),
            Some(byte) => {
                wire.write_all(&[byte])?;
                self.sent += 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

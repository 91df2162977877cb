//! Bytes from a file to a client: read piece by piece as the client takes them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use s3s::dto::StreamingBlob;

/// Bytes read at once.
const PIECE_BYTES: u64 = 256 * 1024;

/// A part of a file as a body. The file is the one that was opened, whatever happens to its name meanwhile.
pub(super) fn send(file: File, range: Range<u64>) -> StreamingBlob {
    let file = Arc::new(file);
    StreamingBlob::wrap(stream::try_unfold(range, move |range| piece(file.clone(), range)))
}

async fn piece(file: Arc<File>, range: Range<u64>) -> io::Result<Option<(Bytes, Range<u64>)>> {
    if range.is_empty() {
        return Ok(None);
    }
    let end = range.end.min(range.start + PIECE_BYTES);
    let read = move || {
        let mut piece = vec![0; (end - range.start) as usize];
        file.read_exact_at(&mut piece, range.start)?;
        Ok(Some((Bytes::from(piece), end..range.end)))
    };
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
}

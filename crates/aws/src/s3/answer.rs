//! What a store's XML says: refusals, lists, uploads. Nothing is trusted but read leniently, as stores differ in what they add.

use quick_xml::Reader;
use quick_xml::events::Event;

/// Elements within elements; S3 has four.
const DEPTH_MAX: usize = 16;

/// One page of a bucket's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    pub objects: Vec<ObjectInList>,
    /// The last key if there are more.
    pub next: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectInList {
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// In a form that sorts by time.
    pub modified: String,
}

/// The texts of an XML document, each with the path of its element: `Error/Code`. An element is told when it ends.
fn texts(body: &[u8], tell: &mut dyn FnMut(&str, &str)) -> Option<()> {
    let mut reader = Reader::from_str(str::from_utf8(body).ok()?);
    let (mut path, mut text) = (Vec::new(), String::new());
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                path.push(start.local_name().into_inner().to_owned());
                text.clear();
            }
            Event::Empty(start) => {
                path.push(start.local_name().into_inner().to_owned());
                tell(&path.join("/"), "");
                path.pop();
            }
            Event::End(_) => {
                tell(&path.join("/"), &text);
                text.clear();
                path.pop()?;
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::CData(piece) => text.push_str(&piece),
            Event::GeneralRef(name) => text.push(replaced(&name)?),
            Event::Eof => return path.is_empty().then_some(()),
            _ => {}
        }
        if path.len() > DEPTH_MAX {
            return None;
        }
    }
}

/// The uploads in parts that are under way, each by its key and its id.
pub(super) fn uploads(body: &[u8]) -> Vec<(String, String)> {
    let (mut found, mut key) = (Vec::new(), String::new());
    texts(body, &mut |path, text| match path {
        "ListMultipartUploadsResult/Upload/Key" => key = text.to_owned(),
        "ListMultipartUploadsResult/Upload/UploadId" => found.push((key.clone(), text.to_owned())),
        _ => {}
    });
    found
}

/// What `&name;` stands for.
fn replaced(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let digits = name.strip_prefix('#')?;
            let number = match digits.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => digits.parse().ok()?,
            };
            char::from_u32(number)
        }
    }
}

/// Code and message, if that is what the text is.
pub(super) fn refusal(body: &[u8]) -> Option<(String, String)> {
    let (mut code, mut message) = (None, String::new());
    texts(body, &mut |path, text| match path {
        "Error/Code" => code = Some(text.to_owned()),
        "Error/Message" => text.clone_into(&mut message),
        _ => {}
    })?;
    Some((code?, message))
}

/// The text of the element at `path`.
pub(super) fn element(body: &[u8], wanted: &str) -> Option<String> {
    let mut found = None;
    texts(body, &mut |path, text| {
        if path == wanted {
            found = Some(text.to_owned());
        }
    })?;
    found
}

/// Reads the answers of ListObjectsV2.
pub(super) struct Listed;

impl Listed {
    pub(super) fn read(body: &[u8]) -> Option<Listing> {
        let (mut listing, mut object) = (Listing::default(), ObjectInList::default());
        let (mut is_list, mut is_truncated) = (false, false);
        texts(body, &mut |path, text| match path {
            "ListBucketResult/Contents/Key" => object.key = decoded(text),
            "ListBucketResult/Contents/Size" => object.size = text.parse().unwrap_or_default(),
            "ListBucketResult/Contents/LastModified" => text.clone_into(&mut object.modified),
            "ListBucketResult/Contents" => listing.objects.push(std::mem::take(&mut object)),
            "ListBucketResult/IsTruncated" => is_truncated = text == "true",
            "ListBucketResult" => is_list = true,
            _ => {}
        })?;
        listing.next = listing.objects.last().filter(|_| is_truncated).map(|object| object.key.clone());
        is_list.then_some(listing)
    }
}

/// Of `encoding-type=url`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match (first, hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Milliseconds since 1970 of `Sun, 29 Nov 2026 21:00:00 GMT`.
pub(super) fn http_date_ms(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let day: i64 = parts.next()?.parse().ok()?;
    let month_name = parts.next()?;
    let month = 1 + i64::try_from(MONTHS.iter().position(|month| *month == month_name)?).ok()?;
    let year: i64 = parts.next()?.parse().ok()?;
    let time: Vec<i64> = parts.next()?.split(':').map_while(|part| part.parse().ok()).collect();
    let [hour, minute, second] = time[..] else { return None };
    // Days since 1970, by years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_by_what_it_says_and_nothing_else_is_one() {
        let text = br#"<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce &lt;it&gt; &#33;</Message></Error>"#;
        assert_eq!(refusal(text), Some(("SlowDown".into(), "Reduce <it> !".into())));
        for other in
            [&b"<Error><Code>SlowDown</Code>"[..], b"<List><Code>x</Code></List>", b"", b"\xff", b"{}"]
        {
            assert_eq!(refusal(other), None, "{}", String::from_utf8_lossy(other));
        }
        assert_eq!(refusal("<a>".repeat(100).as_bytes()), None);
    }

    #[test]
    fn a_list_has_keys_as_they_are_and_says_whether_there_are_more() {
        let text = b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a%2Fb+c%25</Key>\
            <LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size></Contents></ListBucketResult>";
        let listing = Listed::read(text).unwrap();
        assert_eq!(listing.next.as_deref(), Some("a/b c%"));
        assert_eq!(
            (listing.objects[0].size, listing.objects[0].modified.as_str()),
            (7, "2026-01-02T03:04:05.000Z")
        );
        assert_eq!(Listed::read(b"<ListBucketResult></ListBucketResult>"), Some(Listing::default()));
        assert_eq!(Listed::read(b"<html></html>"), None);
    }

    #[test]
    fn dates_of_http_are_read() {
        assert_eq!(http_date_ms("Thu, 01 Jan 1970 00:00:01 GMT"), Some(1000));
        assert_eq!(http_date_ms("Thu, 29 Feb 2024 12:34:56 GMT"), Some(1_709_210_096_000));
        assert_eq!(http_date_ms("yesterday"), None);
    }
}

//! Whether a path segment looks like an identifier rather than a word of the API. Nothing here is certain; who wants
//! certainty declares routes.

/// Tells identifiers (UUID, number, date, long hex, base64-like, e-mail, or a word with one of them) from ordinary
/// words, versions (`v1`, `1.0`) and file names (`style.css`). The segment is percent-decoded.
///
/// When in doubt it is a word: a wrong `{id}` merges two routes for ever, a wrong word costs one place under the cap.
pub(super) fn is_identifier(segment: &[u8]) -> bool {
    is_email(segment)
        || segment.windows(36).any(is_uuid)
        || is_number_like(segment)
        || is_encoded(segment)
        || segment.split(|byte| !byte.is_ascii_alphanumeric()).any(is_identifying_piece)
}

/// Hex digits in groups of 8, 4, 4, 4 and 12 (RFC 9562 section 4), also those of the nil and max UUID without a digit.
fn is_uuid(text: &[u8]) -> bool {
    let groups = text.split(|&byte| byte == b'-').map(<[u8]>::len);
    groups.eq([8, 4, 4, 4, 12]) && text.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}

/// Something, one `@`, and a domain with a dot in it.
fn is_email(segment: &[u8]) -> bool {
    let mut parts = segment.split(|&byte| byte == b'@');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(local), Some(domain), None) => {
            !local.is_empty() && domain.contains(&b'.') && !domain.starts_with(b".") && !domain.ends_with(b".")
        }
        _ => false,
    }
}

/// Digits, and no letter at all: numbers, dates, times, addresses. `1.0` and `2.13.1` are versions.
fn is_number_like(segment: &[u8]) -> bool {
    let has_letter = segment.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
    let has_digit = segment.iter().any(u8::is_ascii_digit);
    has_digit && !has_letter && !is_dotted_version(segment)
}

fn is_dotted_version(segment: &[u8]) -> bool {
    let parts = segment.split(|&byte| byte == b'.');
    let count = parts.clone().count();
    (2..=3).contains(&count)
        && parts.into_iter().all(|part| matches!(part.len(), 1..=2) && part.iter().all(u8::is_ascii_digit))
}

/// A run of letters and digits that no name would have: `12345` of `segment_12345.ts`, `3f2a9c1b` of `app.3f2a9c1b.js`.
fn is_identifying_piece(piece: &[u8]) -> bool {
    let digits = piece.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == piece.len() {
        // Two digits are rather a counter of variants (`utf-8`, `web-02`).
        return digits >= 3;
    }
    let all_hex = piece.iter().all(u8::is_ascii_hexdigit);
    // Seven: the shortest commit name that git prints. Without a digit it may be a word (`defaced`).
    if all_hex && (piece.len() >= 16 || (digits > 0 && piece.len() >= 7)) {
        return true;
    }
    let longest_number = runs(piece).filter(|run| run.0 == Class::Digit).map(|run| run.1).max().unwrap_or(0);
    // Four digits are in `1080p` and `iso8859`.
    if longest_number >= 5 || piece.len() >= 40 {
        return true;
    }
    let numbers = runs(piece).filter(|run| run.0 == Class::Digit).count();
    let mixed_case = piece.iter().any(u8::is_ascii_lowercase) && piece.iter().any(u8::is_ascii_uppercase);
    let enough = if mixed_case { 2 } else { 3 };
    (piece.len() >= 10 && numbers >= enough) || (mixed_case && is_ragged(piece))
}

/// The whole segment as URL-safe or plain base64 (RFC 4648), whose `-`, `_`, `+` and `=` do not separate words.
fn is_encoded(segment: &[u8]) -> bool {
    let body = segment.strip_suffix(b"==").or_else(|| segment.strip_suffix(b"=")).unwrap_or(segment);
    let is_padded = body.len() < segment.len() && segment.len() >= 8 && segment.len().is_multiple_of(4);
    let mixed_case = body.iter().any(u8::is_ascii_lowercase) && body.iter().any(u8::is_ascii_uppercase);
    body.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'))
        && (is_padded || (mixed_case && is_ragged(body)))
}

/// At least 16 bytes whose class changes at every second byte or more often. In random base64 it does at 6 of 10
/// places, in `camelCaseWords` at 4 or fewer.
fn is_ragged(text: &[u8]) -> bool {
    text.len() >= 16 && runs(text).count() * 2 > text.len()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Mark,
}

/// Runs of bytes of one class with their lengths.
fn runs(text: &[u8]) -> impl Iterator<Item = (Class, usize)> + '_ {
    text.chunk_by(|a, b| class(*a) == class(*b)).filter_map(|run| Some((class(*run.first()?), run.len())))
}

fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' => Class::Lower,
        b'A'..=b'Z' => Class::Upper,
        b'0'..=b'9' => Class::Digit,
        _ => Class::Mark,
    }
}

#[cfg(test)]
mod tests {
    use super::is_identifier;

    #[test]
    fn identifiers() {
        let list = [
            // numbers, dates, addresses
            "0",
            "7",
            "42",
            "-1",
            "18446744073709551616",
            "2026-01-31",
            "12:30",
            "1,2,3",
            "10.0.0.1",
            "51.5074",
            "3.14159",
            "1.2.3.4",
            // UUID, plain, upper case, in braces, as URN, without dashes
            "550e8400-e29b-41d4-a716-446655440000",
            "550E8400-E29B-41D4-A716-446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
            "550e8400e29b41d4a716446655440000",
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            // long hex: ObjectId, commit names
            "507f1f77bcf86cd799439011",
            "a1b2c3d",
            "deadbeefdeadbeef",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            // base64, base62, ULID, video and JWT names
            "dQw4w9WgXcQ",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "4f7YhPq2LkZx9Rt0",
            "SGVsbG8sIFdvcmxkIQ==",
            "k3j9x2p1qz",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.abc",
            "aGk-dGhlcmU_Zm9vYmFy",
            // e-mail
            "alice@example.org",
            "a.b+c@mail.example.co.uk",
            // words with one of them
            "job-1234",
            "segment_00001.ts",
            "app.3f2a9c1b.js",
            "worker-550e8400-e29b-41d4-a716-446655440000",
            "user12345",
        ];
        for segment in list {
            assert!(is_identifier(segment.as_bytes()), "{segment}");
        }
    }

    #[test]
    fn words() {
        let list = [
            "",
            ".",
            "..",
            "jobs",
            "heartbeat",
            "v1",
            "v2.1",
            "v1beta1",
            "1.0",
            "2.13.1",
            "api",
            "style.css",
            "jquery.min.js",
            "favicon.ico",
            "robots.txt",
            "index.html",
            "oauth2",
            "s3",
            "h264",
            "sha256",
            "1080p",
            "3840x2160",
            "utf-8",
            "mp4",
            "decade",
            "defaced",
            "facade",
            "internationalization",
            "getUserById",
            "NodeService",
            "ProcessInference",
            "grpc.health.v1.Health",
            "proto.NodeService",
            "well-known",
            ".well-known",
            "openid-configuration",
            "@alice",
            "a@b",
            "OAuth2AuthorizationServer",
            "web-02",
            "camelCaseWordsInALongRow",
            "{id}",
            "e2e",
            "x-y-z",
            "~user",
            "\u{e9}t\u{e9}",
            "wp-login.php",
            "search;v=1",
        ];
        for segment in list {
            assert!(!is_identifier(segment.as_bytes()), "{segment}");
        }
    }
}

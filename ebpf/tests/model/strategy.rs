//! Which conversations there are. What must be booked for one is `conversation`.

use proptest::collection::vec;
use proptest::prelude::*;

use super::conversation::{Conversation, End, Turn};
use super::message::{Chunk, Draft, Framing, Spelling};

/// Any conversation.
pub(crate) fn conversation() -> impl Strategy<Value = Conversation> {
    let turns = prop_oneof![
        6 => vec(turn(), 0..6),
        1 => vec(turn(), 6..50),
    ];
    let bases = prop_oneof![Just([0, 0]), any::<[u32; 2]>(), (0u32..3_000).prop_map(|near| [u32::MAX - near; 2])];
    (turns, last(), end(), any::<[bool; 2]>(), bases).prop_map(|(mut turns, last, end, fins, bases)| {
        match &end {
            End::Upgraded(_) => turns.push(upgrade(last)),
            End::Refused(..) => turns.push(Turn { interim: Vec::new(), ..last }),
            _ if until_close(&last) || turns.is_empty() => turns.push(last),
            _ => {}
        }
        Conversation { turns, end, fins, bases }
    })
}

fn until_close(turn: &Turn) -> bool {
    matches!(turn.answer.framing, Framing::UntilClose(_))
}

/// The last request and what switches protocols.
fn upgrade(mut turn: Turn) -> Turn {
    turn.answer.framing = Framing::Bodiless;
    if turn.blanks == 0 {
        "CONNECT a.example:443 HTTP/1.1".clone_into(&mut turn.request.first_line);
        turn.request.framing = Framing::Bodiless;
        turn.status = 200;
        "HTTP/1.1 200 Connection established".clone_into(&mut turn.answer.first_line);
    } else {
        turn.status = 101;
        "HTTP/1.1 101 Switching Protocols".clone_into(&mut turn.answer.first_line);
    }
    turn.early = false;
    turn
}

fn end() -> impl Strategy<Value = End> {
    let opaque = || vec(prop_oneof![4 => any::<u8>(), 1 => Just(b'\n'), 1 => Just(b'G'), 1 => Just(0x16)], 0..300);
    let refusal = (prop_oneof![Just(400u16), Just(408), Just(431)], refusal_framing())
        .prop_map(|(status, framing)| (Draft::new(&format!("HTTP/1.1 {status} No")).framed(framing), status));
    prop_oneof![
        3 => Just(End::Whole),
        3 => any::<[u16; 2]>().prop_map(End::Cut),
        1 => [opaque(), opaque()].prop_map(End::Upgraded),
        1 => (any::<u16>(), refusal).prop_map(|(place, (draft, status))| End::Refused(place, draft, status)),
    ]
}

fn refusal_framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        (0usize..400).prop_map(|length| Framing::Length { length, space: " ", zeros: 0 }),
        chunked(),
        (0usize..400).prop_map(Framing::UntilClose),
    ]
}

fn turn() -> impl Strategy<Value = Turn> {
    exchange(answer_framing().boxed())
}

/// The only one whose answer may go on until the connection ends.
fn last() -> impl Strategy<Value = Turn> {
    exchange(prop_oneof![answer_framing(), (0usize..5_000).prop_map(Framing::UntilClose)].boxed())
}

fn exchange(framing: BoxedStrategy<Framing>) -> impl Strategy<Value = Turn> {
    let request = (method(), target(), version(), request_framing(), surroundings());
    let answer = (status(), framing, surroundings(), version());
    let rest = (0usize..3, vec(interim(), 0..3), any::<bool>());
    (request, answer, rest).prop_map(
        |((method, target, version, framing, around), (status, answer, answer_around, answer_version), rest)| {
            let (blanks, interim, early) = rest;
            let request = around.draft(format!("{method} {target} HTTP/1.{version}"), framing);
            let answer = match answer {
                Framing::Length { length, .. } if method == "HEAD" || status == 304 => Framing::Promised(length),
                _ if method == "HEAD" || status == 204 || status == 304 => Framing::Bodiless,
                Framing::Bodiless => Framing::Length { length: 0, space: " ", zeros: 0 },
                framing => framing,
            };
            // RFC 9110 9.3.6: any 2xx answer to CONNECT switches; that is `upgrade`.
            let status = if method == "CONNECT" && status < 300 { 403 } else { status };
            let answer = match (method.as_str(), status, answer) {
                ("CONNECT", 403, Framing::Bodiless) => Framing::Length { length: 0, space: " ", zeros: 0 },
                (_, _, answer) => answer,
            };
            let answer =
                answer_around.draft(format!("HTTP/1.{answer_version} {status} {}", "Reason ".repeat(blanks)), answer);
            Turn { blanks, request, interim, answer, status, early }
        },
    )
}

fn method() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just("GET".to_owned()),
        2 => Just("HEAD".to_owned()),
        2 => Just("POST".to_owned()),
        1 => Just("CONNECT".to_owned()),
        1 => Just("HEADER".to_owned()),
        1 => "[A-Za-z][A-Z-]{0,20}",
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "/[a-z0-9/?&=%.]{0,40}",
        1 => "/[a-z0-9/?&=%.]{90,300}",
        1 => "/[a-z]{1500,1600}",
        1 => Just("*".to_owned()),
    ]
}

fn version() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(1u8), 1 => Just(0)]
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(200u16), 1 => Just(204), 1 => Just(304), 1 => Just(404), 1 => 200u16..600]
}

fn interim() -> impl Strategy<Value = Draft> {
    (prop_oneof![Just(100u16), Just(102), Just(103)], surroundings())
        .prop_map(|(status, around)| around.draft(format!("HTTP/1.1 {status} Go on"), Framing::Bodiless))
}

fn request_framing() -> impl Strategy<Value = Framing> {
    prop_oneof![3 => Just(Framing::Bodiless), 2 => length(), 2 => chunked()]
}

fn answer_framing() -> impl Strategy<Value = Framing> {
    prop_oneof![1 => Just(Framing::Bodiless), 3 => length(), 3 => chunked()]
}

fn length() -> impl Strategy<Value = Framing> {
    let length = prop_oneof![4 => 0usize..50, 3 => 0usize..3_000, 1 => 60_000usize..70_000];
    let space =
        prop_oneof![4 => Just(" "), 1 => Just(""), 1 => Just("\t "), 1 => Just("                                ")];
    (length, space, prop_oneof![4 => Just(0usize), 1 => 0usize..40])
        .prop_map(|(length, space, zeros)| Framing::Length { length, space, zeros })
}

fn chunked() -> impl Strategy<Value = Framing> {
    let coding = prop_oneof![
        4 => Just(" chunked"),
        1 => Just("chunked"),
        1 => Just(" Chunked \t"),
        1 => Just(" gzip, chunked"),
        1 => Just(" gzip,CHUNKED  "),
    ];
    let trailers = vec("[A-Z][a-z]{0,10}: [a-z0-9]{0,200}", 0..3);
    let odd =
        vec(prop_oneof![Just("Content-Length: 7".to_owned()), Just("Transfer-Encoding: chunked".to_owned())], 0..2);
    (coding, vec(chunk(), 0..6), trailers, odd).prop_map(|(coding, chunks, mut trailers, odd)| {
        trailers.extend(odd);
        Framing::Chunked { coding, chunks, trailers }
    })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let extension =
        prop_oneof![4 => Just(String::new()), 1 => ";[a-z]{1,10}=\"[0-9a-f ]{0,20}\"", 1 => " ;[0-9a-f]{100,700}"];
    (prop_oneof![4 => 1usize..40, 1 => 1usize..5_000], 0usize..30, any::<bool>(), extension)
        .prop_map(|(length, zeros, upper, extension)| Chunk { length, zeros, upper, extension })
}

/// What stands around the first line and the framing field.
#[derive(Debug, Clone)]
struct Surroundings {
    fields: Vec<String>,
    place: usize,
    spelling: Spelling,
    bare: bool,
}

impl Surroundings {
    fn draft(self, first_line: String, framing: Framing) -> Draft {
        let Self { fields, place, spelling, bare } = self;
        Draft { first_line, fields, place, framing, spelling, bare }
    }
}

fn surroundings() -> impl Strategy<Value = Surroundings> {
    let field = prop_oneof![
        4 => "[A-Za-z-]{1,12}:[a-z0-9 ]{0,30}",
        1 => "Cookie: [a-z0-9=; ]{100,700}",
        1 => "X-Fold: a\n[ \t]{1,3}[a-z]{0,20}",
        1 => Just("X-Fold: a\n Content-Length: 77".to_owned()),
        1 => Just("X-Content-Length: 77".to_owned()),
        1 => Just("Content-Lengthy: 77".to_owned()),
        1 => Just("Transfer-Encodings: chunked".to_owned()),
    ];
    let fields = prop_oneof![8 => vec(field.clone(), 0..4), 1 => vec(field, 0..12)];
    let spelling = prop_oneof![2 => Just(Spelling::Canonical), 1 => Just(Spelling::Lower), 1 => Just(Spelling::Upper)];
    (fields, 0usize..4, spelling, prop_oneof![5 => Just(false), 1 => Just(true)])
        .prop_map(|(fields, place, spelling, bare)| Surroundings { fields, place, spelling, bare })
}

//! Compares `guest-sdk/abi.md` and `guest-sdk/io.md` with the numbers of this crate.
//!
//! The page marks each table that a test can check with a comment,
//! `<!-- table: name -->`. A row that is missing, added or moved on either side
//! fails a test. The page's worked example must equal the file `counter.wat`, and
//! the hand-written modules must import host calls with the right types.

use exuvia_abi::{
    Code, HEADER_SIZE, HOST_CALLS, Header, HostCall, Kind, Pid, Priority, Reason, RunResult,
    WasmType, clock, demonitor, exports, info, limits, log, receive, spawn, table as tables,
};

const PAGE: &str = include_str!("../../../guest-sdk/abi.md");
const COUNTER: &str = include_str!("../../../guest-sdk/wat/counter.wat");
const ECHO: &str = include_str!("../../../guest-sdk/wat/echo.wat");
const IDLE: &str = include_str!("../../../guest-sdk/wat/idle.wat");

/// Returns the rows below the marker of that name, without the header, cells trimmed.
fn table(name: &str) -> Vec<Vec<String>> {
    let marker = format!("<!-- table: {name} -->");
    let (_, after) = PAGE
        .split_once(&marker)
        .unwrap_or_else(|| panic!("abi.md has no table {name}"));
    after
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('`', ""))
                .collect()
        })
        .collect()
}

/// Reads a number in a cell: the first word, without commas.
fn number(cell: &str) -> i64 {
    let digits = cell
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .replace(',', "");
    digits
        .parse()
        .unwrap_or_else(|_| panic!("abi.md: {cell:?} is not a number"))
}

/// Formats a number with commas, up to a million.
fn thousands(number: u32) -> String {
    format!("{},{:03}", number / 1_000, number % 1_000)
}

/// Returns the first two columns of a table: a number and a name.
fn values(name: &str) -> Vec<(i64, String)> {
    table(name)
        .into_iter()
        .map(|row| (number(&row[0]), row[1].clone()))
        .collect()
}

/// Normalizes a name: `NoProc` and `NOPROC` are equal.
fn plain(name: &str) -> String {
    name.replace('_', "").to_uppercase()
}

fn assert_values(name: &str, expected: &[(i64, &str)]) {
    let page: Vec<_> = values(name)
        .into_iter()
        .map(|(value, name)| (value, plain(&name)))
        .collect();
    let crates: Vec<_> = expected
        .iter()
        .map(|(value, name)| (*value, plain(name)))
        .collect();
    assert_eq!(page, crates, "left: abi.md, right: the crate");
}

fn call_row(call: &HostCall) -> Vec<String> {
    let yes = |it: bool| if it { "yes" } else { "no" };
    let params: Vec<_> = (call.param_names.iter().zip(call.params))
        .map(|(name, wasm)| format!("{} {}", name.replace('_', " "), wasm.name()))
        .collect();
    [
        call.name,
        &params.join(", "),
        call.result.map_or("none", WasmType::name),
        call.probation.name(),
        yes(call.blocks),
        yes(call.restricted),
    ]
    .map(String::from)
    .to_vec()
}

#[test]
fn host_calls_match_the_crate_in_order() {
    let expected: Vec<_> = HOST_CALLS.iter().map(call_row).collect();
    assert_eq!(table("calls"), expected, "run `cargo xtask abi`");
}

#[test]
fn every_host_call_is_explained() {
    let (_, text) = PAGE
        .split_once("## 9. Receiving")
        .expect("the text after the table");
    for call in HOST_CALLS {
        let bold = format!("**{}**", call.name);
        let code = format!("`{}", call.name);
        assert!(
            text.contains(&bold) || text.contains(&code),
            "abi.md does not say what {} does",
            call.name
        );
    }
}

/// Returns the next code, so that the compiler requires a row when one is added.
fn code_after(code: Code) -> Option<Code> {
    Some(match code {
        Code::Ok => Code::Empty,
        Code::Empty => Code::Timeout,
        Code::Timeout => Code::TooBig,
        Code::TooBig => Code::Upgrade,
        Code::Upgrade => Code::NoProc,
        Code::NoProc => Code::Limit,
        Code::Limit => Code::BadPointer,
        Code::BadPointer => Code::BadArgument,
        Code::BadArgument => Code::MessageTooLarge,
        Code::MessageTooLarge => Code::MailboxFull,
        Code::MailboxFull => Code::NameTaken,
        Code::NameTaken => Code::NoModule,
        Code::NoModule => Code::StartFailed,
        Code::StartFailed => Code::Denied,
        Code::Denied => Code::NotSupported,
        Code::NotSupported => return None,
    })
}

fn kind_after(kind: Kind) -> Option<Kind> {
    Some(match kind {
        Kind::Init => Kind::Message,
        Kind::Message => Kind::Request,
        Kind::Request => Kind::Reply,
        Kind::Reply => Kind::Exit,
        Kind::Exit => Kind::Down,
        Kind::Down => Kind::Timer,
        Kind::Timer => Kind::Table,
        Kind::Table => return None,
    })
}

fn run_after(result: RunResult) -> Option<RunResult> {
    Some(match result {
        RunResult::Rest => RunResult::Waiting,
        RunResult::Waiting => RunResult::Done,
        RunResult::Done => return None,
    })
}

#[test]
fn codes_kinds_and_results_of_run_match() {
    let codes: Vec<_> = std::iter::successors(Some(Code::Ok), |code| code_after(*code))
        .map(|code| (i64::from(code as i32), format!("{code:?}")))
        .collect();
    let kinds: Vec<_> = std::iter::successors(Some(Kind::Init), |kind| kind_after(*kind))
        .map(|kind| (i64::from(kind as u32), format!("{kind:?}")))
        .collect();
    let runs: Vec<_> = std::iter::successors(Some(RunResult::Rest), |run| run_after(*run))
        .map(|run| (i64::from(run as i32), format!("{run:?}")))
        .collect();
    for (name, rows) in [("codes", codes), ("kinds", kinds), ("run", runs)] {
        let rows: Vec<_> = rows.iter().map(|(v, n)| (*v, n.as_str())).collect();
        assert_values(name, &rows);
    }
}

#[test]
fn all_named_reasons_are_listed() {
    let named: Vec<_> = (0..Reason::GUEST)
        .map(|code| (code, Reason(code).name()))
        .filter(|(_, name)| *name != "exit")
        .collect();
    let page: Vec<_> = table("reasons");
    let shown: Vec<_> = page
        .iter()
        .map(|row| {
            let code = i32::try_from(number(&row[0])).expect("a code is an i32");
            (code, row[2].as_str())
        })
        .collect();
    assert_eq!(shown, named, "left: abi.md, right: the crate");
    let constants = [
        (Reason::NORMAL, "NORMAL"),
        (Reason::SHUTDOWN, "SHUTDOWN"),
        (Reason::KILLED, "KILLED"),
        (Reason::NOPROC, "NOPROC"),
        (Reason::TRAP, "TRAP"),
        (Reason::MEMORY, "MEMORY"),
        (Reason::INTERNAL, "INTERNAL"),
        (Reason::NO_MODULE, "NO_MODULE"),
        (Reason::UPGRADE, "UPGRADE"),
        (Reason::CONTRACT, "CONTRACT"),
        (Reason::INTENSITY, "INTENSITY"),
        (Reason::LIMIT, "LIMIT"),
    ]
    .map(|(reason, name)| (i64::from(reason.0), name));
    assert_values("reasons", &constants);
    assert!(PAGE.contains(&format!("Codes from {} on belong to guests", Reason::GUEST)));
}

#[test]
fn modes_flags_and_selectors_match() {
    assert_values(
        "receive",
        &[
            (receive::ANY.into(), "ANY"),
            (receive::TAG.into(), "TAG"),
            (receive::REFERENCE.into(), "REFERENCE"),
            (receive::SENDER.into(), "SENDER"),
            (receive::REFERENCES.into(), "REFERENCES"),
            (receive::UPGRADE.into(), "UPGRADE"),
            (receive::TRUNCATE.into(), "TRUNCATE"),
            (receive::PEEK.into(), "PEEK"),
        ],
    );
    assert_values(
        "spawn",
        &[
            (spawn::LINK.into(), "LINK"),
            (spawn::MONITOR.into(), "MONITOR"),
            (spawn::SYNC.into(), "SYNC"),
        ],
    );
    assert_values(
        "access",
        &[
            (tables::PROTECTED.into(), "PROTECTED"),
            (tables::PRIVATE.into(), "PRIVATE"),
            (tables::PUBLIC.into(), "PUBLIC"),
        ],
    );
    let priorities = [Priority::Low, Priority::Normal, Priority::High];
    let names = priorities.map(|it| (i64::from(it as u32), format!("{it:?}")));
    let rows: Vec<_> = names.iter().map(|(v, n)| (*v, n.as_str())).collect();
    assert_values("priority", &rows);
    assert_values("demonitor", &[(demonitor::FLUSH.into(), "FLUSH")]);
    assert_values(
        "clock",
        &[
            (clock::MONOTONIC.into(), "MONOTONIC"),
            (clock::REALTIME.into(), "REALTIME"),
        ],
    );
    assert_values(
        "info",
        &[
            (info::REDUCTIONS.into(), "REDUCTIONS"),
            (info::MAILBOX.into(), "MAILBOX"),
            (info::UPGRADES.into(), "UPGRADES"),
            (info::ABI_MINOR.into(), "ABI_MINOR"),
            (info::MESSAGE_BYTES.into(), "MESSAGE_BYTES"),
            (info::MAILBOX_BYTES.into(), "MAILBOX_BYTES"),
            (info::MAILBOX_MESSAGES.into(), "MAILBOX_MESSAGES"),
            (info::MEMORY_BYTES.into(), "MEMORY_BYTES"),
        ],
    );
    assert_values(
        "log",
        &[
            (log::ERROR.into(), "ERROR"),
            (log::WARN.into(), "WARN"),
            (log::INFO.into(), "INFO"),
            (log::DEBUG.into(), "DEBUG"),
        ],
    );
}

#[test]
fn limits_and_exports_match() {
    let page: Vec<_> = table("limits").iter().map(|row| number(&row[1])).collect();
    let crates = [
        limits::NAME,
        limits::REFERENCES,
        limits::LOG_LINE,
        limits::REASON,
        limits::RANDOM,
        limits::STATE,
        limits::LINKS,
        limits::MONITORS,
        limits::NAMES,
        limits::GROUPS,
        limits::TABLES,
        limits::TABLE_KEY,
        limits::GRANTS,
        limits::TIMERS,
        limits::ARGUMENTS_FREE,
    ];
    assert_eq!(page, crates.map(i64::from));
    let page: Vec<_> = (table("module-limits").iter())
        .map(|row| number(&row[1]))
        .collect();
    let crates = [
        limits::FUNCTION_CODE.into(),
        limits::MODULE_CODE.into(),
        limits::FUNCTIONS.into(),
        limits::GLOBALS.into(),
        limits::IMPORTS.into(),
        limits::STARTUP.into(),
        limits::BLOCKS.into(),
        limits::VARIABLES_BY_BLOCKS.into(),
        limits::SETS_BY_BLOCKS as i64,
        limits::OPERANDS.into(),
        limits::NESTED_LOOPS.into(),
        limits::TABLE_ENTRIES.into(),
    ];
    assert_eq!(page, crates);
    assert!(PAGE.contains(&format!("up to {}", thousands(spawn::OPTIONS_MOST))));

    let page: Vec<_> = table("exports")
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let crates = [
        exports::MEMORY,
        exports::ABI,
        exports::RUN,
        exports::SAVE,
        exports::LOAD,
        exports::SCHEMA,
        exports::INITIALIZE,
        exports::WARM_UP,
        exports::SHARED_START,
    ];
    assert_eq!(page, crates);
    assert!(PAGE.contains(exports::LAYOUT_SECTION));
    assert!(PAGE.contains(exports::PROTOCOL_SECTION));
    assert!(PAGE.contains(exports::STATE_SECTION));
}

/// Returns the size of the types in a cell, bytes.
fn width(cell: &str) -> i64 {
    cell.split(", ")
        .map(|wasm| match wasm {
            "u32" | "i32" => 4,
            "u64" => 8,
            other => panic!("abi.md: unknown type {other:?}"),
        })
        .sum()
}

/// Checks that the offsets follow one another without gaps up to the size.
fn assert_structure(name: &str, size: u32) {
    let end = table(name).iter().fold(0, |offset, row| {
        assert_eq!(number(&row[0]), offset, "table {name}, {row:?}");
        offset + width(&row[1])
    });
    assert_eq!(end, i64::from(size), "table {name}");
}

#[test]
fn the_header_and_the_options_have_the_documented_layout() {
    assert_structure("header", HEADER_SIZE);
    assert_structure("options", spawn::OPTIONS_KNOWN);

    let pid = Pid {
        node: 11,
        local: 12,
    };
    let header = Header {
        kind: Kind::Down,
        sender: pid,
        reference: 13,
        tag: 14,
        length: 15,
        reason: -16,
    }
    .to_bytes();
    let expected: Vec<(&str, Vec<u8>)> = vec![
        ("size", HEADER_SIZE.to_le_bytes().into()),
        ("kind", (Kind::Down as u32).to_le_bytes().into()),
        ("sender", pid.to_bytes().into()),
        ("reference", 13u64.to_le_bytes().into()),
        ("tag", 14u32.to_le_bytes().into()),
        ("length", 15u32.to_le_bytes().into()),
        ("reason", (-16i32).to_le_bytes().into()),
        ("reserved", vec![0; 4]),
    ];
    let rows = table("header");
    assert_eq!(rows.len(), expected.len());
    for (row, (field, bytes)) in rows.iter().zip(expected) {
        assert!(row[2].starts_with(field), "{row:?} is not {field}");
        let offset = usize::try_from(number(&row[0])).expect("an offset is not negative");
        assert_eq!(header[offset..offset + bytes.len()], bytes, "{field}");
    }
}

#[test]
fn the_worked_example_matches_the_file() {
    let mut code = Vec::new();
    let mut inside = false;
    for line in PAGE.lines() {
        match line {
            "```wat" => inside = true,
            "```" => inside = false,
            _ if inside && !line.trim().is_empty() => code.push(line),
            _ => {}
        }
    }
    let file: Vec<_> = COUNTER
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(code, file, "left: abi.md, right: counter.wat");
}

#[test]
fn hand_written_modules_import_existing_calls() {
    for (file, text) in [("counter", COUNTER), ("echo", ECHO), ("idle", IDLE)] {
        let imports: Vec<_> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("(import \"exuvia\" \""))
            .collect();
        assert!(!imports.is_empty(), "{file}.wat");
        for import in imports {
            let (name, signature) = import.split_once('"').expect("a quoted name");
            let call = HostCall::find(name)
                .unwrap_or_else(|| panic!("{file}.wat imports {name}, which is no host call"));
            let (params, result) = signature.split_once("(result").unwrap_or((signature, ""));
            let types = |part: &str| -> Vec<&'static str> {
                part.split([' ', '(', ')'])
                    .filter_map(|word| ["i32", "i64"].into_iter().find(|it| *it == word))
                    .collect()
            };
            let expected: Vec<_> = call.params.iter().copied().map(WasmType::name).collect();
            assert_eq!(types(params), expected, "{file}.wat: {name}");
            let expected: Vec<_> = call.result.map(WasmType::name).into_iter().collect();
            assert_eq!(types(result), expected, "{file}.wat: result of {name}");
        }
    }
}

/// The table of tags in `io.md`, and their numbers in the crate.
#[test]
fn the_tags_of_input_and_output() {
    const IO: &str = include_str!("../../../guest-sdk/io.md");
    let rows = IO.lines().filter(|line| line.starts_with("| 0xffffff"));
    let page: Vec<(u32, &str)> = rows
        .map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            let number = cells.next().and_then(|cell| cell.strip_prefix("0x"));
            let number = u32::from_str_radix(number.unwrap_or_default(), 16);
            (number.expect("a number"), cells.next().expect("a name"))
        })
        .collect();
    assert_eq!(page, exuvia_abi::io::ALL, "left: io.md, right: the crate");
    assert!(IO.contains(exuvia_abi::io::HTTP_CLIENT));
}

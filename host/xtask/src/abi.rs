//! `cargo xtask abi`: writes what describes the contract with guests from the one table of host
//! calls: the table of `guest-sdk/abi.md`, and `guest-sdk/abi.json`, from which SDKs in other
//! languages are made. `tidy` reports files that are out of date.
//!
//! The numbers (codes, kinds and so on) come from the other tables of the page, which a test of
//! `exuvia-abi` compares with the crate; so each number is written once in Rust and once on the
//! page.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use exuvia_abi::{ABI_MINOR, ABI_VERSION, HOST_CALLS, HostCall, MODULE, OPTIONAL_MODULE, WasmType};

use crate::shell;

const PAGE: &str = "guest-sdk/abi.md";
const JSON: &str = "guest-sdk/abi.json";
/// The marker of the table of host calls.
const CALLS: &str = "<!-- table: calls -->\n";

/// The other tables of the page that are part of the JSON.
const TABLES: &[&str] = &[
    "exports",
    "run",
    "header",
    "kinds",
    "codes",
    "reasons",
    "receive",
    "options",
    "spawn",
    "demonitor",
    "priority",
    "log",
    "clock",
    "info",
    "access",
];

/// Writes both files.
pub(crate) fn write() -> Result<()> {
    for (path, text) in generated()? {
        let full = shell::root().join(path);
        fs::write(&full, text).with_context(|| format!("cannot write {}", full.display()))?;
    }
    Ok(())
}

/// Returns the files that are not as the table says.
pub(crate) fn stale() -> Result<Vec<&'static str>> {
    let mut stale = Vec::new();
    for (path, text) in generated()? {
        // A file that cannot be read is out of date too.
        if fs::read_to_string(shell::root().join(path)).ok().as_ref() != Some(&text) {
            stale.push(path);
        }
    }
    Ok(stale)
}

fn generated() -> Result<[(&'static str, String); 2]> {
    let full = shell::root().join(PAGE);
    let page = fs::read_to_string(&full).with_context(|| format!("cannot read {PAGE}"))?;
    let page = with_calls(&page).with_context(|| format!("{PAGE} has no table of host calls"))?;
    let json = json(&page)?;
    Ok([(PAGE, page), (JSON, json)])
}

/// Returns the page with the current table of host calls.
fn with_calls(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(CALLS)?;
    let rows = rest.lines().take_while(|line| line.starts_with('|'));
    let length: usize = rows.map(|line| line.len() + 1).sum();
    let mut table = String::from(
        "| name | parameters | result | probation | blocks | restricted |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for call in HOST_CALLS {
        let yes = |it: bool| if it { "yes" } else { "no" };
        let parameters: Vec<String> = parameters(call)
            .map(|(name, wasm)| format!("{} `{}`", name.replace('_', " "), wasm.name()))
            .collect();
        let result = call.result.map(WasmType::name);
        let result = result.map_or("none".to_owned(), |name| format!("`{name}`"));
        let _ = writeln!(
            table,
            "| `{}` | {} | {result} | {} | {} | {} |",
            call.name,
            parameters.join(", "),
            call.probation.name(),
            yes(call.blocks),
            yes(call.restricted),
        );
    }
    Some(format!("{before}{CALLS}{table}{}", rest.get(length..)?))
}

fn parameters(call: &HostCall) -> impl Iterator<Item = (&'static str, WasmType)> {
    let types = call.params.iter().copied();
    call.param_names.iter().copied().zip(types)
}

/// Returns the JSON: one line for each row, so that a change is seen in a review.
fn json(page: &str) -> Result<String> {
    let mut json = format!(
        "{{\n  \"abi\": {ABI_VERSION},\n  \"minor\": {ABI_MINOR},\n  \"module\": {},\n  \"optional_module\": {},\n",
        text(MODULE),
        text(OPTIONAL_MODULE)
    );
    let calls: Vec<String> = HOST_CALLS.iter().map(call_json).collect();
    let _ = write!(json, "  \"host_calls\": [\n{}\n  ]", calls.join(",\n"));
    for name in TABLES {
        let rows = rows(page, name).with_context(|| format!("{PAGE} has no table `{name}`"))?;
        let _ = write!(json, ",\n  {}: [\n{}\n  ]", text(name), rows.join(",\n"));
    }
    json.push_str("\n}\n");
    Ok(json)
}

fn call_json(call: &HostCall) -> String {
    let parameters: Vec<String> = parameters(call)
        .map(|(name, wasm)| {
            format!(
                "{{\"name\": {}, \"type\": \"{}\"}}",
                text(name),
                wasm.name()
            )
        })
        .collect();
    let result = call.result.map(WasmType::name);
    format!(
        "    {{\"name\": {}, \"family\": {}, \"params\": [{}], \"result\": {}, \"probation\": {}, \"blocks\": {}, \"restricted\": {}, \"impure\": {}, \"docs\": {}}}",
        text(call.name),
        text(call.family),
        parameters.join(", "),
        result.map_or("null".to_owned(), text),
        text(call.probation.name()),
        call.blocks,
        call.restricted,
        call.impure,
        text(call.docs),
    )
}

/// Returns the rows of a table of the page, each as an object whose keys are the headings.
fn rows(page: &str, name: &str) -> Option<Vec<String>> {
    let (_, rest) = page.split_once(&format!("<!-- table: {name} -->\n"))?;
    let mut lines = rest.lines().take_while(|line| line.starts_with('|'));
    let headings = cells(lines.next()?);
    let rows = lines.skip(1).map(|line| {
        let fields: Vec<String> = (headings.iter().zip(cells(line)))
            .map(|(heading, cell)| {
                // "field (0 = as the parent)" and the like.
                let key = heading.split(" (").next().unwrap_or_default();
                let value = match cell.replace(',', "").parse::<i64>() {
                    Ok(number) => number.to_string(),
                    Err(_) => text(&cell),
                };
                format!("{}: {value}", text(key))
            })
            .collect();
        format!("    {{{}}}", fields.join(", "))
    });
    Some(rows.collect())
}

fn cells(line: &str) -> Vec<String> {
    let cells = line.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().replace('`', "")).collect()
}

/// Returns a JSON string.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_the_rest_of_the_page_is_kept() {
        let page = format!("before\n\n{CALLS}| old |\n| row |\n\nafter\n");
        let written = with_calls(&page).unwrap();
        assert!(written.starts_with("before\n\n") && written.ends_with("|\n\nafter\n"));
        assert!(!written.contains("| old |"));
        assert_eq!(written.matches("| `send` |").count(), 1);
        assert_eq!(
            with_calls(&written).as_ref(),
            Some(&written),
            "once is enough"
        );
    }

    #[test]
    fn a_row_becomes_an_object() {
        let page = "<!-- table: codes -->\n| value | name (short) |\n| --- | --- |\n| -1,000 | `A \"b\"` |\n";
        let rows = rows(page, "codes").unwrap();
        assert_eq!(rows, [r#"    {"value": -1000, "name": "A \"b\""}"#]);
    }

    #[test]
    fn the_files_are_up_to_date() {
        assert_eq!(stale().unwrap(), [""; 0], "run `cargo xtask abi`");
    }
}

//! `exuvia shell`: runs the commands that talk to a node interactively, with history and
//! completion. A line is a command line without its first word.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use exuvia_api::Client;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Context, Editor, Helper, Highlighter, Hinter, Validator};

use crate::command::{
    call, deploy, describe, diff, events, info, inspect, kill, pin, ps, releases, rollback, send,
    stop, suspend, top, trace, tree,
};
use crate::environment;
use crate::error::{CliError, Exit};
use crate::output::{Output, Tone, clean};
use crate::place::Place;
use crate::text::is_hidden;

/// The maximum number of lines kept in the history.
const HISTORY: usize = 1_000;
/// The maximum number of process names that completion offers.
const NAMES: usize = 2_000;

/// Talk to a node interactively
///
/// The commands are those of this program: `ps`, `inspect`, `send`, `call`, `trace` and so on;
/// `help` lists them. Tab completes commands and names of processes, Ctrl-C interrupts the
/// running command, Ctrl-D exits the shell. Lines may also be piped in.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  exuvia shell
  echo 'call counter \"Get\"' | exuvia shell")]
pub(crate) struct Arguments {}

#[derive(Debug, Parser)]
#[command(
    name = "",
    no_binary_name = true,
    disable_version_flag = true,
    help_template = "{subcommands}",
    subcommand_required = true
)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ps(ps::Arguments),
    Inspect(inspect::Arguments),
    Send(send::Arguments),
    Call(call::Arguments),
    Describe(describe::Arguments),
    Tree(tree::Arguments),
    Kill(kill::Kill),
    Restart(kill::Restart),
    Trace(trace::Arguments),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Top(top::Arguments),
    Events(events::Arguments),
    Info(info::Arguments),
    Deploy(deploy::Arguments),
    Rollback(rollback::Arguments),
    Releases(releases::Arguments),
    Diff(diff::Arguments),
    Pin(pin::Pin),
    Unpin(pin::Unpin),
    Stop(stop::Arguments),
    /// Exit the shell; the node keeps running
    #[command(alias = "exit")]
    Quit,
}

pub(crate) async fn run(place: &Place, output: &Output) -> Result<(), CliError> {
    let client = place.client()?;
    let app = client.info().await?.value.app;
    // Pin the node, so that later commands reach it from any folder.
    let place = match client.socket() {
        Some(socket) => &Place::new(Some(socket.to_path_buf()), None),
        None => place,
    };
    let mut input = Input::new(&app, output);
    let mut last = Ok(());
    loop {
        input.know(&client).await;
        let (returned, read) = tokio::task::spawn_blocking(move || {
            let read = input.read();
            (input, read)
        })
        .await
        .map_err(|error| CliError::failed(format!("the shell failed: {error}")))?;
        input = returned;
        let line = match read? {
            Read::Line(line) => line,
            Read::Interrupted => continue,
            Read::End => return last,
        };
        let arguments = match parse(&line) {
            Parsed::Nothing => continue,
            Parsed::Help(text) => {
                output.line(&text)?;
                continue;
            }
            Parsed::Wrong(text) => {
                output.fault(&CliError::usage(text));
                last = Err(CliError::Shown(Exit::Usage));
                continue;
            }
            Parsed::Line(arguments) => arguments,
        };
        if matches!(arguments.command, Command::Quit) {
            return last;
        }
        let stops = matches!(arguments.command, Command::Stop(_));
        last = tokio::select! {
            done = act(arguments.command, place, output) => done,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        match &last {
            Ok(()) if stops => return Ok(()),
            Ok(()) => {}
            Err(CliError::ReaderGone) => return last,
            Err(fault) => {
                output.fault(fault);
                last = Err(CliError::Shown(fault.exit()));
            }
        }
    }
}

async fn act(command: Command, place: &Place, output: &Output) -> Result<(), CliError> {
    match command {
        Command::Ps(arguments) => ps::run(arguments, place, output).await,
        Command::Inspect(arguments) => inspect::run(arguments, place, output).await,
        Command::Send(arguments) => send::run(arguments, place, output).await,
        Command::Call(arguments) => call::run(arguments, place, output).await,
        Command::Describe(arguments) => describe::run(arguments, place, output).await,
        Command::Tree(arguments) => tree::run(arguments, place, output).await,
        Command::Kill(asked) => kill::kill(asked, place, output).await,
        Command::Restart(asked) => kill::restart(asked, place, output).await,
        Command::Trace(arguments) => trace::run(arguments, place, output).await,
        Command::Suspend(asked) => suspend::suspend(asked, place, output).await,
        Command::Resume(asked) => suspend::resume(asked, place, output).await,
        Command::Top(arguments) => top::run(arguments, place, output).await,
        Command::Events(_) => events::run(place, output).await,
        Command::Info(_) => info::run(place, output).await,
        Command::Deploy(arguments) => deploy::run(arguments, place, output).await,
        Command::Rollback(arguments) => rollback::run(arguments, place, output).await,
        Command::Releases(_) => releases::run(place, output).await,
        Command::Diff(arguments) => diff::run(&arguments, place, output).await,
        Command::Pin(arguments) => pin::pin(&arguments, place, output).await,
        Command::Unpin(arguments) => pin::unpin(&arguments, place, output).await,
        Command::Stop(arguments) => stop::run(arguments, place, output).await,
        Command::Quit => Ok(()),
    }
}

/// The result of parsing a line.
#[derive(Debug)]
enum Parsed {
    /// An empty line or a comment.
    Nothing,
    Line(Line),
    Help(String),
    Wrong(String),
}

fn parse(line: &str) -> Parsed {
    let words = match words(line) {
        Ok(words) => words,
        Err(text) => return Parsed::Wrong(text),
    };
    if words.is_empty() {
        return Parsed::Nothing;
    }
    match Line::try_parse_from(words) {
        Ok(line) => Parsed::Line(line),
        Err(error) => {
            let text = error.to_string();
            if !error.use_stderr() {
                return Parsed::Help(text.trim_end().to_owned());
            }
            let text = text.trim_start_matches("error: ");
            let report = text.split("\n\nUsage:").next().unwrap_or(text);
            Parsed::Wrong(report.trim_end().to_owned())
        }
    }
}

/// Splits a line into words. A word that starts with `{`, `[` or `"` is one JSON value, taken
/// as it is up to its end; other words may be in single quotes.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() && !rest.starts_with('#') {
        if rest.starts_with(['{', '[', '"']) {
            let mut values =
                serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
            let end = match values.next() {
                Some(Ok(_)) => values.byte_offset(),
                Some(Err(error)) => return Err(format!("this is not JSON: {error}")),
                None => rest.len(),
            };
            words.push(rest[..end].to_owned());
            rest = rest[end..].trim_start();
            continue;
        }
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => match quoted.split_once('\'') {
                Some(parts) => parts,
                None => return Err("a quote ' is not closed".into()),
            },
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

// ---- the line editor -----------------------------------------------------------

enum Read {
    Line(String),
    Interrupted,
    End,
}

/// The source of lines: an editor on a terminal, else stdin.
struct Input {
    editor: Option<Editor<Words, FileHistory>>,
    prompt: String,
    history: Option<PathBuf>,
}

impl Input {
    fn new(app: &str, output: &Output) -> Input {
        use std::io::IsTerminal as _;
        let plain = Input {
            editor: None,
            prompt: String::new(),
            history: None,
        };
        if !std::io::stdin().is_terminal() {
            return plain;
        }
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map(|builder| builder.completion_type(CompletionType::List).build());
        let editor = config.and_then(|config| {
            let mut editor = Editor::with_config(config)?;
            editor.set_helper(Some(Words::new()));
            Ok(editor)
        });
        // If the editor cannot use the terminal, it is read like a pipe.
        let Ok(mut editor) = editor else {
            return plain;
        };
        let history = history();
        if let Some(history) = &history {
            // If there is no readable history, a new one is started.
            let _ = editor.load_history(history);
        }
        let prompt = format!("{}> ", output.paint(Tone::Strong, &clean(app)));
        Input {
            editor: Some(editor),
            prompt,
            history,
        }
    }

    /// Updates the process names for completion.
    async fn know(&mut self, client: &Client) {
        let Some(helper) = self.editor.as_mut().and_then(Editor::helper_mut) else {
            return;
        };
        if let Ok(list) = client.processes(None, NAMES, None).await {
            let names = list
                .value
                .items
                .into_iter()
                .flat_map(|process| process.names);
            // Guests choose the names: those with hidden characters are not offered.
            helper.names = names.filter(|name| !name.contains(is_hidden)).collect();
        }
    }

    fn read(&mut self) -> Result<Read, CliError> {
        let unreadable = |error: &dyn std::fmt::Display| {
            CliError::failed(format!("the line could not be read: {error}"))
        };
        let Some(editor) = &mut self.editor else {
            let mut line = String::new();
            return match std::io::stdin().read_line(&mut line) {
                Ok(0) => Ok(Read::End),
                Ok(_) => Ok(Read::Line(line)),
                Err(error) => Err(unreadable(&error)),
            };
        };
        match editor.readline(&self.prompt) {
            Ok(line) => {
                if !line.trim().is_empty() && editor.add_history_entry(&line).unwrap_or(false) {
                    self.keep();
                }
                Ok(Read::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Read::Interrupted),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Appends to the history file. Errors are ignored: only the history is lost.
    fn keep(&mut self) {
        let (Some(editor), Some(history)) = (&mut self.editor, &self.history) else {
            return;
        };
        if let Some(folder) = history.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        let _ = editor.append_history(history);
    }
}

/// Returns `$XDG_STATE_HOME/exuvia/history`, or the same under `~/.local/state`.
fn history() -> Option<PathBuf> {
    let absolute = |name| {
        environment(name)
            .map(PathBuf::from)
            .filter(|it| it.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("exuvia/history"))
}

/// Completes commands, and names of processes as their arguments.
#[derive(Helper, Highlighter, Hinter, Validator)]
struct Words {
    commands: Vec<String>,
    names: Vec<String>,
}

impl Words {
    fn new() -> Words {
        let commands = Line::command();
        let names = commands
            .get_subcommands()
            .map(|it| it.get_name().to_owned());
        Words {
            commands: names.chain(["help".to_owned()]).collect(),
            names: Vec::new(),
        }
    }
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = line.get(..at).unwrap_or_default();
        let begin = typed
            .rfind(char::is_whitespace)
            .map_or(0, |space| space + 1);
        let word = &typed[begin..];
        let known = match typed[..begin].split_whitespace().next() {
            None => &self.commands,
            Some(
                "inspect" | "send" | "call" | "describe" | "trace" | "kill" | "restart" | "suspend"
                | "resume",
            ) => &self.names,
            Some("help") => &self.commands,
            Some(_) => return Ok((at, Vec::new())),
        };
        let mut fitting: Vec<&String> = known.iter().filter(|it| it.starts_with(word)).collect();
        fitting.sort();
        let pair = |name: &String| Pair {
            display: name.clone(),
            replacement: format!("{name} "),
        };
        Ok((begin, fitting.into_iter().map(pair).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Parsed, parse, words};

    #[test]
    fn lines_are_split_into_words_and_json_is_kept_together() {
        let cut = |line| words(line).unwrap();
        assert_eq!(cut("  ps  --limit 3 "), ["ps", "--limit", "3"]);
        assert_eq!(
            cut("send counter {\"Add\": [1, \"two words\"]} --tag 2"),
            [
                "send",
                "counter",
                "{\"Add\": [1, \"two words\"]}",
                "--tag",
                "2"
            ]
        );
        assert_eq!(cut("call a \"Get\""), ["call", "a", "\"Get\""]);
        assert_eq!(
            cut("send a --text 'two words'"),
            ["send", "a", "--text", "two words"]
        );
        assert_eq!(cut("ps # all"), ["ps"]);
        assert!(cut("# nothing").is_empty());
        assert!(words("send a {\"b\"").is_err());
        assert!(words("send a 'b").is_err());
    }

    #[test]
    fn a_line_is_a_command_or_says_why_not() {
        assert!(matches!(parse("  "), Parsed::Nothing));
        assert!(matches!(parse("ps --limit 3"), Parsed::Line(_)));
        let call = format!("{:?}", parse("call counter \"Get\" --timeout 9s"));
        assert!(call.contains("timeout: 9s"), "{call}");
        let wrong = format!("{:?}", parse("pss"));
        assert!(
            wrong.starts_with("Wrong") && wrong.contains("unrecognized"),
            "{wrong}"
        );
        let help = format!("{:?}", parse("help"));
        assert!(
            help.starts_with("Help") && help.contains("inspect"),
            "{help}"
        );
        assert!(
            matches!(parse("run ."), Parsed::Wrong(_)),
            "it begins no node"
        );
    }
}

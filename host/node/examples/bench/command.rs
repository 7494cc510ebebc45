//! The command line of the benchmarks.

use std::path::PathBuf;

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Run the benchmarks and print the table.
    Table,
    /// Measure how the cost of one grows with the number of all.
    Growth,
    /// Run a long load, and check that memory does not grow.
    Soak,
    /// Print the names.
    List,
    /// Run one benchmark, or one size of a growth, once in this process.
    Run { name: String, size: Option<u64> },
    /// Do so many operations of some work, for counting what one costs.
    Count { name: String, operations: u64 },
    /// Start a node, print the first answer of a module's process, and exit.
    FirstAnswer {
        module: String,
        cache: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) action: Action,
    pub(crate) json: bool,
    /// A tenth of the work, and fewer runs.
    pub(crate) quick: bool,
    /// Also what takes minutes and gigabytes.
    pub(crate) large: bool,
    pub(crate) against_beam: bool,
    pub(crate) save: Option<PathBuf>,
    pub(crate) compare: Option<PathBuf>,
    /// Parts of names; empty: all benchmarks.
    pub(crate) filters: Vec<String>,
}

pub(crate) const USAGE: &str = "usage: cargo xtask bench [OPTIONS] [scale] [PARTS OF NAMES...]

  scale           how the cost of one grows with the number of all
  instructions    how many instructions and cache misses one operation costs,
                  counted by valgrind; --help of it shows more
  --soak          10,000 swaps, 10 million spawns, 100 million messages in one
                  run; fails if memory, mappings or files grow
  --quick         a tenth of the work, and fewer runs
  --large         also what needs minutes and gigabytes: 10,000,000 processes, a million in JavaScript and Python
  --against beam  run the Erlang programs of the same work in turns
  --save FILE     write all runs and the machine to a file
  --compare FILE  compare with such a file
  --json          print JSON instead of tables
  --list          the names";

/// Reads the command line.
///
/// # Errors
///
/// What is wrong with it, for display.
pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        action: Action::Table,
        json: false,
        quick: false,
        large: false,
        against_beam: false,
        save: None,
        compare: None,
        filters: Vec::new(),
    };
    let mut arguments = arguments.into_iter();
    let mut size = None;
    let mut cache = None;
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| format!("`{argument}` needs a value; --help shows all options"))
        };
        match argument.as_str() {
            "--json" => options.json = true,
            "--quick" => options.quick = true,
            "--large" => options.large = true,
            "--soak" => options.action = Action::Soak,
            "--list" => options.action = Action::List,
            "--save" => options.save = Some(value()?.into()),
            "--compare" => options.compare = Some(value()?.into()),
            "--against" => match value()?.as_str() {
                "beam" => options.against_beam = true,
                other => return Err(format!("`--against {other}`: there is only `beam`")),
            },
            "--run" => {
                options.action = Action::Run {
                    name: value()?,
                    size: None,
                }
            }
            "--size" => {
                let text = value()?;
                let number = text
                    .parse()
                    .map_err(|_| format!("`--size {text}` is no number"))?;
                size = Some(number);
            }
            "--count" => {
                let (name, text) = (value()?, value()?);
                let operations = text
                    .parse()
                    .map_err(|_| format!("`--count {name} {text}`: the second is no number"))?;
                options.action = Action::Count { name, operations };
            }
            "--first-answer" => {
                options.action = Action::FirstAnswer {
                    module: value()?,
                    cache: None,
                };
            }
            "--cache" => cache = Some(value()?.into()),
            // Flags that `cargo bench` and similar commands pass.
            "--bench" => {}
            flag if flag.starts_with('-') => {
                return Err(format!("there is no option `{flag}`; --help shows all"));
            }
            "scale" if options.action == Action::Table => options.action = Action::Growth,
            filter => options.filters.push(filter.to_owned()),
        }
    }
    match &mut options.action {
        Action::Run { size: of_run, .. } => *of_run = size,
        Action::FirstAnswer { cache: folder, .. } => *folder = cache,
        _ => {}
    }
    check(&options)?;
    Ok(options)
}

/// Rejects options that would be ignored silently.
fn check(options: &Options) -> Result<(), String> {
    if options.json && options.compare.is_some() {
        return Err("`--compare` prints a table, so it does not go with `--json`".to_owned());
    }
    let tables_only = [
        (options.against_beam, "--against"),
        (options.save.is_some(), "--save"),
        (options.compare.is_some(), "--compare"),
    ];
    match options.action {
        Action::Growth | Action::Soak => match tables_only.iter().find(|(given, _)| *given) {
            Some((_, flag)) => Err(format!("`{flag}` is for the table of benchmarks only")),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_arguments_all_benchmarks_run() {
        let options = parsed("").unwrap();
        assert_eq!(options.action, Action::Table);
        assert!(!options.quick && !options.large && options.filters.is_empty());
    }

    #[test]
    fn options_and_names_can_be_mixed() {
        let options = parsed("--quick ring --save a.json --against beam call").unwrap();
        assert!(options.quick && options.against_beam);
        assert_eq!(options.save, Some("a.json".into()));
        assert_eq!(options.filters, ["ring", "call"]);
    }

    #[test]
    fn the_first_scale_is_a_command() {
        let options = parsed("scale processes --quick").unwrap();
        assert_eq!(options.action, Action::Growth);
        assert_eq!(options.filters, ["processes"]);
    }

    #[test]
    fn a_run_has_a_name_and_optionally_a_size() {
        let options = parsed("--size 1000 --run modules").unwrap();
        let name = "modules".to_owned();
        assert_eq!(
            options.action,
            Action::Run {
                name,
                size: Some(1_000)
            }
        );
    }

    #[test]
    fn invalid_arguments_are_reported() {
        for (line, part) in [
            ("--sav a", "`--sav`"),
            ("--save", "`--save` needs a value"),
            ("--against lunatic", "only `beam`"),
            ("--size many --run a", "no number"),
            ("scale --compare a.json", "`--compare` is for the table"),
            ("--json --compare a.json", "does not go with"),
            ("--soak --against beam", "`--against` is for the table"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}

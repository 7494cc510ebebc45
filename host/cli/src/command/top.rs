//! `exuvia top`: shows the busiest processes live. Without a terminal, prints samples as text.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::RangedU64ValueParser;
use crossterm::event::{Event as Key, KeyCode, KeyEventKind, KeyModifiers};
use exuvia_api::{Client, EventLine, Info, MAX_TOP, Sort, Top, TopProcess};
use exuvia_manifest::parse_duration;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table};
use tokio::sync::mpsc;

use crate::environment;
use crate::error::CliError;
use crate::foreground::Interrupts;
use crate::output::{Output, Tone, bytes, clean, count};
use crate::place::Place;
use crate::table::{self, Align};

/// Show the busiest processes live
///
/// Takes a sample every second: the schedulers, and the processes that have used the most
/// reductions since the previous sample, have the most messages waiting, or use the most
/// memory. The last swaps are shown below. If the output is not a terminal, samples are
/// printed.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys: r, m, b sort by reductions, mailbox, memory; space pauses; q ends

Examples:
  exuvia top
  exuvia top --sort mailbox
  exuvia top --count 2 --json | tail -1 | jq '.top[0]'"
)]
pub(crate) struct Arguments {
    /// Sort by this
    #[arg(long, value_enum, default_value_t = By::Reductions)]
    sort: By,
    /// The time between two samples
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,
    /// Show at most N processes
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = limit())]
    limit: usize,
    /// Print N samples as text instead of the live view; the first has no rates
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    count: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// Reductions since the previous sample
    Reductions,
    /// Waiting messages
    Mailbox,
    /// Bytes of linear memory
    Memory,
}

impl By {
    fn sort(self) -> Sort {
        match self {
            Self::Reductions => Sort::Reductions,
            Self::Mailbox => Sort::Mailbox,
            Self::Memory => Sort::Memory,
        }
    }
}

/// Reads the time between two samples.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    match (Duration::from_millis(100)..=Duration::from_mins(1)).contains(&interval) {
        true => Ok(interval),
        false => Err("the interval is from 100ms to 1m".to_owned()),
    }
}

fn limit() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..=MAX_TOP as u64)
}

/// The smallest usable terminal, in columns and rows.
const SMALLEST: (u16, u16) = (40, 8);
/// The number of swaps shown.
const SWAPS: usize = 3;

pub(crate) async fn run(
    arguments: Arguments,
    place: &Place,
    output: &Output,
) -> Result<(), CliError> {
    let client = place.client()?;
    let live = std::io::stdout().is_terminal() && !output.is_json() && arguments.count.is_none();
    if live {
        return watch(&arguments, client).await;
    }
    let mut left = arguments.count.unwrap_or(u64::MAX);
    loop {
        let top = client.top(arguments.sort.sort(), arguments.limit).await?;
        if output.is_json() {
            output.value(&top.json)?;
        } else {
            print(&top.value, output)?;
        }
        left -= 1;
        if left == 0 {
            return Ok(());
        }
        tokio::time::sleep(arguments.interval).await;
    }
}

fn print(top: &Top, output: &Output) -> Result<(), CliError> {
    output.line(&summary(top))?;
    let mut table = table::Table::new(&[
        ("PID", Align::Left),
        ("NAME", Align::Left),
        ("MODULE", Align::Left),
        ("STATE", Align::Left),
        ("RED/S", Align::Right),
        ("RED", Align::Right),
        ("MAILBOX", Align::Right),
        ("MEMORY", Align::Right),
    ]);
    for process in &top.top {
        table.row(cells(process));
    }
    let (heading, rows) = table.lines();
    output.line(&output.paint(Tone::Strong, &heading))?;
    rows.iter().try_for_each(|row| output.line(row))
}

fn summary(top: &Top) -> String {
    let busy: Vec<String> = top
        .schedulers
        .iter()
        .map(|scheduler| format!("{:.0} %", scheduler.busy * 100.0))
        .collect();
    format!(
        "{}, {} ran  {} reductions/s  schedulers {}",
        count(top.processes, "process", "processes"),
        top.ran,
        short(top.reductions),
        busy.join(" ")
    )
}

/// Formats a process as cells: pid, name, module, state, rate, reductions, mailbox, memory.
fn cells(process: &TopProcess) -> [String; 8] {
    let TopProcess { process, rate } = process;
    let name = match process.names.as_slice() {
        [] => "-".to_owned(),
        names => clean(&names.join(",")),
    };
    [
        process.pid.clone(),
        name,
        clean(process.module.as_deref().unwrap_or("-")),
        process.state.clone(),
        short(*rate),
        short(process.reductions as f64),
        process.mailbox.to_string(),
        bytes(process.memory),
    ]
}

/// Formats a number in about five characters.
fn short(number: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    for (size, unit) in UNITS {
        if number >= size {
            return format!("{:.1}{unit}", number / size);
        }
    }
    format!("{number:.0}")
}

/// The state of the live view.
struct View {
    by: By,
    paused: bool,
    colours: bool,
    info: Option<Info>,
    top: Top,
    /// The last event lines about swaps.
    swaps: Vec<String>,
    /// Why the last sample failed.
    trouble: Option<String>,
}

async fn watch(arguments: &Arguments, client: Client) -> Result<(), CliError> {
    // Connect before the screen changes, so that an unreachable node is reported as usual.
    let info = client.info().await?.value;
    let mut events = client.events().await?;
    let mut view = View {
        by: arguments.sort,
        paused: false,
        colours: environment("NO_COLOR").is_none(),
        info: Some(info),
        top: client
            .top(arguments.sort.sort(), arguments.limit)
            .await?
            .value,
        swaps: Vec::new(),
        trouble: None,
    };
    let mut keys = keys();
    // It also restores the terminal on a panic.
    let mut terminal = ratatui::try_init()
        .map_err(|error| CliError::failed(format!("the terminal cannot be used: {error}")))?;
    let mut ticks = tokio::time::interval(arguments.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut interrupts = Interrupts::new()?;
    let mut listening = true;
    let ended = loop {
        if let Err(error) = terminal.draw(|frame| draw(frame, &view)) {
            break Err(CliError::failed(format!(
                "the terminal cannot be written to: {error}"
            )));
        }
        tokio::select! {
            // The terminal is restored in this case, too.
            () = interrupts.next() => break Ok(()),
            _ = ticks.tick(), if !view.paused => {
                match sample(&client, &mut view, arguments.limit).await {
                    Ok(()) => view.trouble = None,
                    Err(error) => view.trouble = Some(error),
                }
            }
            event = events.next(), if listening => match event {
                Ok(Some(event)) => view.hear(&event),
                _ => listening = false,
            },
            key = keys.recv() => match key {
                None => break Ok(()),
                Some(key) => if view.press(&key) { break Ok(()) },
            },
        }
    };
    ratatui::restore();
    ended
}

async fn sample(client: &Client, view: &mut View, limit: usize) -> Result<(), String> {
    let report = |error: exuvia_api::ClientError| error.to_string();
    view.top = client
        .top(view.by.sort(), limit)
        .await
        .map_err(report)?
        .value;
    view.info = Some(client.info().await.map_err(report)?.value);
    Ok(())
}

/// Returns key presses and size changes, read on a thread because reading blocks.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(key) = crossterm::event::read() {
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

impl View {
    /// Handles a key; returns whether to quit.
    fn press(&mut self, key: &Key) -> bool {
        let Key::Key(key) = key else {
            return false;
        };
        if key.kind != KeyEventKind::Press {
            return false;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('r') => self.by = By::Reductions,
            KeyCode::Char('m') => self.by = By::Mailbox,
            KeyCode::Char('b') => self.by = By::Memory,
            KeyCode::Char(' ') => self.paused = !self.paused,
            _ => {}
        }
        false
    }

    fn hear(&mut self, event: &EventLine) {
        let kind = event.event["event"].as_str().unwrap_or_default();
        if ["swap", "upgrade-completed", "refused", "rolled-back"].contains(&kind) {
            self.swaps.push(clean(&event.line));
            let over = self.swaps.len().saturating_sub(SWAPS);
            self.swaps.drain(..over);
        }
    }

    fn style(&self, colour: Color) -> Style {
        match self.colours {
            true => Style::default().fg(colour),
            false => Style::default(),
        }
    }
}

fn draw(frame: &mut Frame<'_>, view: &View) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let text = format!("too small: needs {}x{}", SMALLEST.0, SMALLEST.1);
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let bars = scheduler_lines(view, area.width);
    let swaps = view.swaps.len().min(usize::from(area.height / 4));
    let heights = [
        Constraint::Length(2),
        Constraint::Length(u16::try_from(bars.len()).unwrap_or(1)),
        Constraint::Min(2),
        Constraint::Length(u16::try_from(swaps).unwrap_or(0)),
        Constraint::Length(1),
    ];
    let [head, schedulers, table, below, foot] = Layout::vertical(heights).areas(area);
    frame.render_widget(Paragraph::new(head_lines(view)), head);
    frame.render_widget(Paragraph::new(bars), schedulers);
    frame.render_widget(processes(view), table);
    let last = view.swaps.iter().rev().take(swaps).rev();
    let lines: Vec<Line<'_>> = last
        .map(|line| Line::styled(line.as_str(), view.style(Color::Green)))
        .collect();
    frame.render_widget(Paragraph::new(lines), below);
    let text = match &view.trouble {
        Some(trouble) => Line::styled(clean(trouble), view.style(Color::Red)),
        None => Line::from(
            "r reductions  m mailbox  b memory  space pause  q quit".to_owned()
                + if view.paused { "   paused" } else { "" },
        ),
    };
    frame.render_widget(Paragraph::new(text), foot);
}

fn head_lines(view: &View) -> Vec<Line<'_>> {
    let strong = Style::default().add_modifier(Modifier::BOLD);
    let Some(info) = &view.info else {
        return Vec::new();
    };
    let top = &view.top;
    vec![
        Line::from(vec![
            Span::styled(clean(&info.app), strong),
            Span::raw(format!(
                "  release {}  up {} s  {}, {} ran  {} reductions/s",
                info.release,
                info.uptime_ms / 1000,
                count(top.processes, "process", "processes"),
                top.ran,
                short(top.reductions),
            )),
        ]),
        Line::from(format!(
            "frames {} ({} blocked)  {} of {}  page-ins {}  hits {:.1} %  timers {}",
            info.frames,
            info.frames_blocked,
            bytes(info.frame_bytes),
            bytes(info.frame_bytes_limit),
            info.page_ins,
            info.hit_rate * 100.0,
            info.timers,
        )),
    ]
}

/// Draws a bar for each scheduler, several per line. At most eight lines, which leaves space
/// for the processes even with 64 schedulers.
fn scheduler_lines(view: &View, width: u16) -> Vec<Line<'static>> {
    const WIDTH: usize = 26;
    const BAR: usize = 12;
    const LINES: usize = 8;
    let each = (usize::from(width) / WIDTH).max(1);
    let bars: Vec<Span<'static>> = view
        .top
        .schedulers
        .iter()
        .enumerate()
        .map(|(number, scheduler)| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a few characters"
            )]
            let full = ((scheduler.busy * BAR as f64).round() as usize).min(BAR);
            let text = format!(
                "{number:>3} [{}{}] {:>3.0} %  ",
                "|".repeat(full),
                " ".repeat(BAR - full),
                scheduler.busy * 100.0
            );
            let colour = match scheduler.busy {
                busy if busy > 0.9 => Color::Red,
                busy if busy > 0.5 => Color::Yellow,
                _ => Color::Green,
            };
            Span::styled(text, view.style(colour))
        })
        .collect();
    bars.chunks(each)
        .take(LINES)
        .map(|chunk| Line::from(chunk.to_vec()))
        .collect()
}

fn processes(view: &View) -> Table<'_> {
    let heading = [
        "PID", "NAME", "MODULE", "STATE", "RED/S", "RED", "MAILBOX", "MEMORY",
    ];
    let sorted = match view.by {
        By::Reductions => 4,
        By::Mailbox => 6,
        By::Memory => 7,
    };
    let strong = Style::default().add_modifier(Modifier::BOLD);
    let marked = strong.add_modifier(Modifier::UNDERLINED);
    let heading = heading.iter().enumerate().map(|(column, name)| {
        let style = if column == sorted { marked } else { strong };
        Cell::from(*name).style(style)
    });
    let rows = view.top.top.iter().map(|process| Row::new(cells(process)));
    let widths = [
        Constraint::Length(12),
        Constraint::Min(10),
        Constraint::Min(10),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(10),
    ];
    Table::new(rows, widths).header(Row::new(heading))
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::{By, View, draw, short};

    fn view(processes: usize) -> View {
        let process = json!({
            "pid": "<2.0>", "names": ["a\u{1b}[2Jb"], "module": "counter@1", "state": "resident",
            "mailbox": 7, "reductions": 1234567, "memory": 65536, "image": 0, "upgrade": "current",
            "upgrades": 0, "rate": 4200.0,
        });
        View {
            by: By::Mailbox,
            paused: false,
            colours: true,
            info: serde_json::from_value(json!({
                "app": "shop", "node": "1", "release": 3, "processes": 9, "processes_limit": 100, "schedulers": 2,
                "threads_blocked": 0, "frames": 4, "frames_blocked": 0, "frames_free": 1, "frame_bytes": 65536,
                "frame_bytes_limit": 1048576, "frames_made": 4, "frame_failures": 0, "frames_released": 0,
                "uptime_ms": 65000, "page_ins": 5, "page_outs": 0, "page_in_ns": 0, "page_out_ns": 0,
                "frame_hits": 0, "hit_rate": 0.0, "page_map": "scan", "timers": 0, "modules": [],
            }))
            .unwrap(),
            top: serde_json::from_value(json!({
                "interval_ms": 1000.0, "processes": 9, "ran": 1, "reductions": 4200.0,
                "schedulers": [{"busy": 0.5, "slices": 1.0}, {"busy": 1.0, "slices": 1.0}],
                "top": vec![process; processes],
            }))
            .unwrap(),
            swaps: vec!["swap counter 1 -> 2".into()],
            trouble: None,
        }
    }

    fn shown(view: &View, columns: u16, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| draw(frame, view)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn it_shows_the_node_its_schedulers_and_its_processes() {
        let text = shown(&view(3), 120, 20);
        for part in [
            "shop  release 3  up 65 s  9 processes, 1 ran  4.2k reductions/s",
            "[||||||      ]  50 %",
            "[||||||||||||] 100 %",
            "MAILBOX",
            "counter@1",
            "1.2M",
            "64 KiB",
            "swap counter 1 -> 2",
            "q quit",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
        // The name is chosen by a guest.
        assert!(text.contains("a\\u{1b}[2Jb"), "{text}");
    }

    #[test]
    fn any_terminal_size_is_drawn() {
        for (columns, rows) in [(1, 1), (39, 20), (40, 7), (40, 8), (80, 9), (300, 100)] {
            for processes in [0, 1, 500] {
                let text = shown(&view(processes), columns, rows);
                if columns == 39 {
                    assert!(text.contains("too small: needs 40x8"), "{text}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (999.0, "999"),
            (1_000.0, "1.0k"),
            (2_345_678.0, "2.3M"),
            (7.89e9, "7.9G"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}

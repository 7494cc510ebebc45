//! A worker's side is played by the thread of the test.

use std::sync::mpsc;

use tokio::sync::oneshot;

use super::*;

/// One worker that this thread plays. Unparking it ends its wait.
fn one() -> (Pollers, Poller) {
    recorded(|_| {})
}

fn recorded(sleeps: impl Fn(bool) + Send + Sync + 'static) -> (Pollers, Poller) {
    let pollers = Pollers::new(1);
    let poller = pollers.poller(0, sleeps);
    let signal = poller.signal();
    pollers.connect(move |_| signal.set());
    (pollers, poller)
}

#[test]
fn it_is_in_use_while_it_has_a_task() {
    let (pollers, mut poller) = one();
    assert!(!poller.is_in_use());
    let (end, ended) = oneshot::channel::<()>();
    pollers.spawn(async { drop(ended.await) }).unwrap();
    assert!(poller.is_in_use());
    // The task was started: that ends the first wait.
    poller.wait(None);
    poller.poll();
    assert!(poller.is_in_use());
    end.send(()).unwrap();
    poller.wait(None);
    poller.poll();
    assert!(!poller.is_in_use());
}

/// A task that is woken between two waits or during one, from this thread or from another, is run.
#[test]
fn no_wake_is_lost() {
    const ROUNDS: u32 = 2_000;
    let (pollers, mut poller) = one();
    let (requests, mut of_task) = tokio::sync::mpsc::channel::<u32>(1);
    let (replies, answers) = mpsc::channel();
    let signal = poller.signal();
    let task = async move {
        while let Some(request) = of_task.recv().await {
            replies.send(request).unwrap();
            // As it would by waking a process.
            signal.set();
        }
    };
    pollers.spawn(task).unwrap();
    std::thread::scope(|scope| {
        for round in 0..ROUNDS {
            match round % 3 {
                0 => requests.try_send(round).unwrap(),
                one => {
                    let requests = &requests;
                    let sent = scope.spawn(move || requests.try_send(round).unwrap());
                    if one == 1 {
                        sent.join().unwrap();
                    }
                }
            }
            let answer = loop {
                poller.wait(None);
                if let Ok(answer) = answers.try_recv() {
                    break answer;
                }
            };
            assert_eq!(answer, round);
        }
    });
}

#[test]
fn a_task_that_a_task_starts_is_woken_as_well() {
    let (pollers, mut poller) = one();
    let (sender, receiver) = oneshot::channel::<u32>();
    let (done, answer) = mpsc::channel();
    let outer = async move {
        spawn(async move { done.send(receiver.await.unwrap()).unwrap() });
    };
    pollers.spawn(outer).unwrap();
    poller.wait(None);
    poller.poll();
    sender.send(7).unwrap();
    poller.wait(None);
    poller.poll();
    assert_eq!(answer.try_recv(), Ok(7));
}

#[test]
fn the_timer_ends_a_wait_and_the_sleep_is_recorded() {
    let sleeps = Arc::new(Mutex::new(Vec::new()));
    let record = sleeps.clone();
    let (pollers, mut poller) = recorded(move |asleep| record.lock().push(asleep));
    pollers.spawn(std::future::pending()).unwrap();
    poller.wait(None);
    for time in [3_000, 1, 50, 700].map(Duration::from_micros) {
        let began = Instant::now();
        while began.elapsed() < time {
            poller.wait(Some(time - began.elapsed()));
        }
    }
    let sleeps = sleeps.lock();
    assert!(sleeps.len() >= 2, "three milliseconds were slept");
    let alternates = |(at, asleep): (usize, &bool)| *asleep == (at % 2 == 0);
    assert!(sleeps.len() % 2 == 0 && sleeps.iter().enumerate().all(alternates));
}

#[test]
fn sockets_and_timers_of_tasks_work() {
    let (pollers, mut poller) = one();
    let (done, answer) = mpsc::channel();
    let signal = poller.signal();
    let task = async move {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(address);
        let (accepted, client) = tokio::join!(listener.accept(), client);
        tokio::time::sleep(Duration::from_millis(2)).await;
        done.send((accepted.is_ok(), client.is_ok())).unwrap();
        signal.set();
    };
    pollers.spawn(task).unwrap();
    let answer = loop {
        poller.wait(None);
        if let Ok(answer) = answer.try_recv() {
            break answer;
        }
    };
    assert_eq!(answer, (true, true));
}

#[test]
fn tasks_end_with_their_worker() {
    let (pollers, mut poller) = one();
    let (sender, receiver) = mpsc::channel::<()>();
    let task = async move {
        let _sender = sender;
        std::future::pending::<()>().await;
    };
    pollers.spawn(task).unwrap();
    poller.wait(None);
    drop(poller);
    assert!(receiver.recv().is_err(), "the task was dropped");
    // One that comes later, too.
    let (sender, receiver) = mpsc::channel::<()>();
    let task = async move { drop(sender) };
    pollers.spawn(task).unwrap();
    assert!(receiver.recv().is_err());
}

//! Computation: the cost of metering and preemption.

use std::time::{Duration, Instant};

use exuvia_node::{DeployOptions, ModuleBytes};

use crate::figures::Sample;
use crate::plain::Plain;
use crate::setup::{guest_of, module, node, spawn};
use crate::work::Work;
use crate::{Scale, guests};

/// How often each side computes a job in a run.
const TURNS: u64 = 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// A computation: its name, the guest, the request, and the bytes of the expected answer.
struct Job {
    name: &'static str,
    guest: ModuleBytes,
    tag: u32,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Runs each job on a node, metered and preempted, and in plain wasmtime.
pub(crate) fn run(scale: Scale) -> Vec<Sample> {
    let mut samples = Vec::new();
    for job in jobs() {
        let node = node(1);
        node.deploy(vec![job.guest.clone()], DeployOptions::default())
            .unwrap();
        let pid = spawn(&node, &job.guest.name);
        let mut plain = Plain::start(&job.guest.bytes);
        let (mut metered, mut unmetered) = (f64::MAX, f64::MAX);
        // In turns, and the best of each: the speed of a machine changes within seconds. The first
        // turn warms both up.
        for _ in 0..1 + scale.of(TURNS) {
            let began = Instant::now();
            let reply = node.call(pid, job.tag, job.request.clone(), PATIENCE);
            metered = metered.min(began.elapsed().as_secs_f64() * 1e3);
            assert_eq!(reply.unwrap().payload, job.answer, "{}", job.name);
            let began = Instant::now();
            let reply = plain.call(job.tag, job.request.clone());
            unmetered = unmetered.min(began.elapsed().as_secs_f64() * 1e3);
            assert_eq!(reply, job.answer, "{}", job.name);
        }
        node.halt();
        let name = job.name;
        samples.push((format!("{name} on a node, ms"), metered));
        samples.push((format!("{name} in plain wasmtime, ms"), unmetered));
        samples.push((
            format!("{name}, node / plain wasmtime, ratio"),
            metered / unmetered,
        ));
    }
    samples
}

fn jobs() -> Vec<Job> {
    let wat = module("compute", &guests::compute());
    let by_hand = [
        ("fib(32)", Work::Fib(32)),
        ("LCG loop of 10,000,000", Work::Lcg(10_000_000)),
        ("mandelbrot 400 x 400 x 100", Work::Mandelbrot(400)),
    ];
    let mut jobs: Vec<Job> = (1..)
        .zip(by_hand)
        .map(|(tag, (name, work))| Job {
            name,
            guest: wat.clone(),
            tag,
            request: Vec::new(),
            answer: work.run().to_le_bytes().to_vec(),
        })
        .collect();
    let Some(rust) = guest_of("host/bench/guest", "compute") else {
        eprintln!("compute: no Rust guest, `cargo xtask guests` builds it");
        return jobs;
    };
    let in_rust = [
        ("n-body 500,000 steps", Work::NBody(500_000)),
        ("SHA-256 of 1 MiB", Work::Sha256(1 << 20)),
    ];
    jobs.extend(in_rust.map(|(name, work)| Job {
        name,
        guest: rust.clone(),
        tag: 0,
        request: rmp_serde::to_vec_named(&work).unwrap(),
        answer: rmp_serde::to_vec_named(&work.run()).unwrap(),
    }));
    jobs
}

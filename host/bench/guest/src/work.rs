//! What the compute benchmarks compute. The guest runs it metered on a node and
//! unmetered in plain wasmtime; the benchmark, whose source includes this file,
//! runs it natively to know the right answers.

use serde::{Deserialize, Serialize};

/// What to compute.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// fib(n), by the recursion of its definition.
    Fib(u32),
    /// So many steps of a linear congruential generator.
    Lcg(u32),
    /// Steps until each point of a square of this size leaves the Mandelbrot
    /// set, 100 at most: their sum.
    Mandelbrot(u32),
    /// So many steps of the Sun and four planets: the bits of their energy.
    NBody(u32),
    /// The first 8 bytes of the SHA-256 of so many bytes.
    Sha256(u32),
}

impl Work {
    /// Computes it.
    pub(crate) fn run(self) -> u64 {
        match self {
            Work::Fib(n) => fib(n),
            Work::Lcg(steps) => (0..steps).fold(42, |x: u64, _| {
                x.wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407)
            }),
            Work::Mandelbrot(size) => mandelbrot(size, 100),
            Work::NBody(steps) => n_body(steps).to_bits(),
            Work::Sha256(bytes) => {
                let text: Vec<u8> = b"0123456789abcdef"
                    .iter()
                    .copied()
                    .cycle()
                    .take(bytes as usize)
                    .collect();
                sha256(&text)
            }
        }
    }
}

fn fib(n: u32) -> u64 {
    if n < 2 {
        u64::from(n)
    } else {
        fib(n - 1) + fib(n - 2)
    }
}

fn mandelbrot(size: u32, most: u32) -> u64 {
    let mut sum = 0;
    for y in 0..size {
        let ci = 2.0 * f64::from(y) / f64::from(size) - 1.0;
        for x in 0..size {
            let cr = 3.0 * f64::from(x) / f64::from(size) - 2.0;
            sum += u64::from(escape(cr, ci, most));
        }
    }
    sum
}

fn escape(cr: f64, ci: f64, most: u32) -> u32 {
    let (mut zr, mut zi) = (0.0, 0.0);
    for i in 0..most {
        let (zr2, zi2) = (zr * zr, zi * zi);
        if zr2 + zi2 > 4.0 {
            return i;
        }
        zi = 2.0 * zr * zi + ci;
        zr = zr2 - zi2 + cr;
    }
    most
}

/// Position, velocity (in days at first), mass in suns.
struct Body {
    at: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

const SOLAR_MASS: f64 = 4.0 * std::f64::consts::PI * std::f64::consts::PI;
const DAYS: f64 = 365.24;
const STEP: f64 = 0.01;

/// Sun, Jupiter, Saturn, Uranus, Neptune, by the usual figures of this benchmark.
fn bodies() -> [Body; 5] {
    let planet = |at, speed: [f64; 3], mass: f64| Body {
        at,
        speed: speed.map(|speed| speed * DAYS),
        mass: mass * SOLAR_MASS,
    };
    [
        planet([0.0; 3], [0.0; 3], 1.0),
        planet(
            [
                4.841_431_442_464_721,
                -1.160_320_044_027_428_4,
                -0.103_622_044_471_123_11,
            ],
            [
                0.001_660_076_642_744_037,
                0.007_699_011_184_197_404,
                -6.904_600_169_720_63e-5,
            ],
            9.547_919_384_243_266e-4,
        ),
        planet(
            [
                8.343_366_718_244_58,
                4.124_798_564_124_305,
                -0.403_523_417_114_321_4,
            ],
            [
                -0.002_767_425_107_268_624,
                0.004_998_528_012_349_172,
                2.304_172_975_737_639_3e-5,
            ],
            2.858_859_806_661_308e-4,
        ),
        planet(
            [
                12.894_369_562_139_131,
                -15.111_151_401_698_631,
                -0.223_307_578_892_655_74,
            ],
            [
                0.002_964_601_375_647_616,
                0.002_378_471_739_594_809_5,
                -2.965_895_685_402_375_6e-5,
            ],
            4.366_244_043_351_563e-5,
        ),
        planet(
            [
                15.379_697_114_850_917,
                -25.919_314_609_987_964,
                0.179_258_772_950_371_18,
            ],
            [
                0.002_680_677_724_903_893_2,
                0.001_628_241_700_382_423,
                -9.515_922_545_197_159e-5,
            ],
            5.151_389_020_466_114_5e-5,
        ),
    ]
}

fn n_body(steps: u32) -> f64 {
    let mut bodies = bodies();
    // The Sun moves so that all together stand still.
    for axis in 0..3 {
        let momentum: f64 = bodies.iter().map(|body| body.speed[axis] * body.mass).sum();
        bodies[0].speed[axis] = -momentum / SOLAR_MASS;
    }
    for _ in 0..steps {
        advance(&mut bodies);
    }
    energy(&bodies)
}

fn advance(bodies: &mut [Body; 5]) {
    for first in 0..bodies.len() {
        for second in first + 1..bodies.len() {
            let apart = difference(&bodies[first], &bodies[second]);
            let square = squared(apart);
            let pull = STEP / (square * square.sqrt());
            let (mass, other) = (bodies[first].mass, bodies[second].mass);
            for (axis, apart) in apart.iter().enumerate() {
                bodies[first].speed[axis] -= apart * other * pull;
                bodies[second].speed[axis] += apart * mass * pull;
            }
        }
    }
    for body in bodies {
        for (at, speed) in body.at.iter_mut().zip(body.speed) {
            *at += STEP * speed;
        }
    }
}

fn energy(bodies: &[Body; 5]) -> f64 {
    let mut energy = 0.0;
    for (index, body) in bodies.iter().enumerate() {
        energy += 0.5 * body.mass * squared(body.speed);
        for other in &bodies[index + 1..] {
            energy -= body.mass * other.mass / squared(difference(body, other)).sqrt();
        }
    }
    energy
}

fn difference(a: &Body, b: &Body) -> [f64; 3] {
    [a.at[0] - b.at[0], a.at[1] - b.at[1], a.at[2] - b.at[2]]
}

fn squared(v: [f64; 3]) -> f64 {
    v[0] * v[0] + v[1] * v[1] + v[2] * v[2]
}

/// The first 64 bits of the digest.
fn sha256(text: &[u8]) -> u64 {
    let mut state: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];
    let (blocks, rest) = text.as_chunks::<64>();
    for block in blocks {
        compress(&mut state, block);
    }
    let mut end = [0; 128];
    end[..rest.len()].copy_from_slice(rest);
    end[rest.len()] = 0x80;
    let used = if rest.len() < 56 { 64 } else { 128 };
    end[used - 8..used].copy_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    for block in end[..used].as_chunks::<64>().0 {
        compress(&mut state, block);
    }
    (u64::from(state[0]) << 32) | u64::from(state[1])
}

fn compress(state: &mut [u32; 8], block: &[u8; 64]) {
    let mut words = [0; 64];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for i in 16..64 {
        let (a, b): (u32, u32) = (words[i - 15], words[i - 2]);
        let small = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
        let great = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
        words[i] = words[i - 16]
            .wrapping_add(small)
            .wrapping_add(words[i - 7])
            .wrapping_add(great);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in words.iter().zip(ROUNDS) {
        let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let one = h
            .wrapping_add(sum)
            .wrapping_add(choice)
            .wrapping_add(constant)
            .wrapping_add(*word);
        let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        (h, g, f, e) = (g, f, e, d.wrapping_add(one));
        (d, c, b, a) = (c, b, a, one.wrapping_add(sum).wrapping_add(majority));
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(add);
    }
}

/// Fractions of the cube roots of the first 64 primes.
#[rustfmt::skip]
const ROUNDS: [u32; 64] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
];

#[cfg(test)]
mod tests {
    use super::Work;

    #[test]
    fn results_match_the_known_ones() {
        assert_eq!(Work::Fib(32).run(), 2_178_309);
        assert_eq!(
            Work::Lcg(1).run(),
            42_u64
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407)
        );
        assert_eq!(Work::Mandelbrot(400).run(), 4_856_315);
        // SHA-256 of "" and of "0123456789abcdef" four times.
        assert_eq!(Work::Sha256(0).run(), 0xe3b0_c442_98fc_1c14);
        assert_eq!(Work::Sha256(64).run(), 0xa8ae_6e6e_e929_abea);
        let energy = f64::from_bits(Work::NBody(1_000).run());
        assert!((energy + 0.169_087_605).abs() < 1e-9, "{energy}");
    }
}

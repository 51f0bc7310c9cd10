//! How often: requests in each second, minute, day and month of UTC. A meter counts what was taken; of several requests at once
//! no more get through than there is room for. It reads no clock.

use std::{
    fmt::Write as _,
    sync::atomic::{
        AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed},
    },
    time::{Duration, SystemTime},
};

use time::{Date, OffsetDateTime};

/// The stretches of time that are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    Second,
    Minute,
    Day,
    Month,
}

/// Requests in each window; any number without one. By window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas(pub [Option<u32>; 4]);

/// What was taken of one grant by one consumer.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// By window: its number in the upper half, what was taken in it in the lower.
    taken: [AtomicU64; 4],
}

/// What was taken, by window: its number and how many.
pub type Reading = [(u32, u32); 4];

/// How a consumer stands with one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    pub window: Window,
    pub quota: u32,
    pub remaining: u32,
    /// How long the window is, and until it ends, in whole seconds, not less than that.
    pub length: u64,
    pub reset: u64,
}

/// A window has no room: how a consumer stands with each that is limited, and the one that opens last of those that are full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    pub left: Vec<Left>,
    pub full: Left,
}

impl Window {
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Day, Self::Month];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Its number at a moment, when it began and when it ends, in seconds since 1970.
    fn at(self, seconds: u64) -> (u32, u64, u64) {
        let even = |length: u64| {
            let number = seconds / length;
            (u32::try_from(number).unwrap_or(u32::MAX), number * length, (number + 1) * length)
        };
        match self {
            Self::Second => even(1),
            Self::Minute => even(60),
            Self::Day => even(86_400),
            Self::Month => month(seconds).unwrap_or_else(|| even(31 * 86_400)),
        }
    }
}

/// Counted from year 0.
fn month(seconds: u64) -> Option<(u32, u64, u64)> {
    let date = OffsetDateTime::from_unix_timestamp(i64::try_from(seconds).ok()?).ok()?.date();
    let first = date.replace_day(1).ok()?;
    let (year, month) = (date.year(), date.month());
    let next = Date::from_calendar_date(year + i32::from(month == time::Month::December), month.next(), 1).ok()?;
    let start = |date: Date| u64::try_from(date.midnight().assume_utc().unix_timestamp()).ok();
    Some((u32::try_from(year * 12 + i32::from(u8::from(month))).ok()?, start(first)?, start(next)?))
}

impl Quotas {
    pub fn is_unlimited(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }
}

impl Meter {
    /// Takes one of each window that is limited, or none at all.
    pub(super) fn take(&self, quotas: &Quotas, now: SystemTime) -> Result<Vec<Left>, Exceeded> {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let (mut left, mut full): (Vec<Left>, Option<Left>) = (Vec::with_capacity(4), None);
        let mut taken = [None; 4];
        // What has no room for one that is known to be full takes nothing from others meanwhile.
        let known = [0, 1, 2, 3].map(|index| self.count(index, Window::ALL[index].at(seconds).0));
        let is_full = (0..4).any(|index| quotas.0[index].is_some_and(|quota| known[index] >= quota));
        for (index, window) in Window::ALL.into_iter().enumerate() {
            let Some(quota) = quotas.0[index] else { continue };
            let (number, start, end) = window.at(seconds);
            let found = if is_full { None } else { self.take_one(index, number, quota) };
            let remaining = quota.saturating_sub(found.unwrap_or(known[index]));
            let one = Left { window, quota, remaining, length: end - start, reset: (end - seconds).max(1) };
            left.push(one);
            match found {
                Some(_) => taken[index] = Some(number),
                None if is_full && remaining > 0 => {}
                None => full = Some(one),
            }
        }
        let Some(full) = full else { return Ok(left) };
        for (index, number) in taken.into_iter().enumerate() {
            if let Some(number) = number {
                self.give_back(index, number);
            }
        }
        for one in left.iter_mut().filter(|one| taken[one.window as usize].is_some()) {
            one.remaining += 1;
        }
        Err(Exceeded { left, full })
    }

    fn count(&self, index: usize, number: u32) -> u32 {
        in_window(self.taken[index].load(Acquire), number).1
    }

    /// How many are taken then, of a window that has this number; none if there is no room.
    fn take_one(&self, index: usize, number: u32, quota: u32) -> Option<u32> {
        let next = |word: u64| {
            let (number, taken) = in_window(word, number);
            (taken < quota).then(|| pack(number, taken + 1))
        };
        self.taken[index].fetch_update(AcqRel, Acquire, next).ok().map(|before| in_window(before, number).1 + 1)
    }

    fn give_back(&self, index: usize, number: u32) {
        let less = |word: u64| {
            let (known, taken) = unpack(word);
            (known == number && taken > 0).then(|| pack(known, taken - 1))
        };
        let _ = self.taken[index].fetch_update(AcqRel, Acquire, less);
    }

    pub(super) fn read(&self) -> Reading {
        [0, 1, 2, 3].map(|index| unpack(self.taken[index].load(Relaxed)))
    }

    /// A meter that reads like that.
    pub(super) fn of(reading: Reading) -> Self {
        Self { taken: reading.map(|(number, taken)| AtomicU64::new(pack(number, taken))) }
    }

    /// Whether all of its windows have passed: then it is as good as new.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        Window::ALL
            .into_iter()
            .zip(self.read())
            .all(|(window, (number, taken))| taken == 0 || number < window.at(seconds).0)
    }
}

/// The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
pub fn fields(left: &[Left]) -> (String, String) {
    let (mut policy, mut limit) = (String::new(), String::new());
    for (n, Left { window, quota, remaining, length, reset }) in left.iter().enumerate() {
        let (comma, name) = (if n > 0 { ", " } else { "" }, window.as_str());
        let _ = write!(policy, "{comma}\"{name}\";q={quota};w={length}");
        let _ = write!(limit, "{comma}\"{name}\";r={remaining};t={reset}");
    }
    (policy, limit)
}

/// What is taken of a window that has this number, or of a later one, which a clock that goes back a little finds.
fn in_window(word: u64, number: u32) -> (u32, u32) {
    let (known, taken) = unpack(word);
    if known < number { (number, 0) } else { (known, taken) }
}

fn pack(number: u32, taken: u32) -> u64 {
    u64::from(number) << 32 | u64::from(taken)
}

fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::atomic::AtomicU32, thread};

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// The day of a moment, as a calendar writes it, and so on: windows by name, as simply as they can be told apart.
    fn names(now: SystemTime) -> [String; 4] {
        let text = humantime::format_rfc3339_seconds(now).to_string();
        [19, 16, 10, 7].map(|length| text[..length].to_owned())
    }

    #[derive(Debug, Clone)]
    enum Step {
        Pass(u64),
        Take(usize),
        /// The meter is read and made anew of that, as after a restart.
        Restart(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..2_usize).prop_map(Step::Take),
            2 => prop_oneof![0..3_u64, 0..90_u64, 0..90_000_u64, 0..3_000_000_u64].prop_map(Step::Pass),
            1 => (0..2_usize).prop_map(Step::Restart),
        ]
    }

    proptest! {
        #[test]
        fn no_grant_is_exceeded_and_none_is_refused_that_has_room(
            start in 0..4_000_000_000_u64,
            quotas in prop::array::uniform4(prop::option::of(0..6_u32)),
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let (quotas, mut now) = (Quotas(quotas), start);
            let mut meters = [Meter::default(), Meter::default()];
            let mut counts: BTreeMap<(usize, usize, String), u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Pass(seconds) => now += seconds,
                    Step::Restart(which) => meters[which] = Meter::of(meters[which].read()),
                    Step::Take(which) => {
                        let keys = names(at(now)).into_iter().enumerate().map(|(index, name)| (which, index, name));
                        let keys: Vec<_> = keys.filter(|(_, index, _)| quotas.0[*index].is_some()).collect();
                        let room = |key: &(usize, usize, String)| {
                            quotas.0[key.1].unwrap_or(0) - counts.get(key).copied().unwrap_or(0)
                        };
                        let fits = keys.iter().all(|key| room(key) > 0);
                        let rooms: Vec<u32> = keys.iter().map(|key| room(key) - u32::from(fits)).collect();
                        let taken = meters[which].take(&quotas, at(now));
                        prop_assert_eq!(taken.is_ok(), fits);
                        let left = taken.unwrap_or_else(|exceeded| exceeded.left);
                        prop_assert_eq!(left.iter().map(|left| left.remaining).collect::<Vec<_>>(), rooms);
                        for left in &left {
                            let index = left.window as usize;
                            let (until, before) = (names(at(now + left.reset)), names(at(now + left.reset - 1)));
                            prop_assert_ne!(&until[index], &names(at(now))[index]);
                            prop_assert_eq!(&before[index], &names(at(now))[index]);
                        }
                        if fits {
                            keys.into_iter().for_each(|key| *counts.entry(key).or_insert(0) += 1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn of_many_at_once_no_more_get_through_than_there_is_room_for() {
        let (meter, quotas) = (Meter::default(), Quotas([None, Some(1000), Some(700), None]));
        let through = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        if meter.take(&quotas, at(1_000_000_000)).is_ok() {
                            through.fetch_add(1, Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(through.into_inner(), 700);
        let [_, (_, minute), (_, day), _] = meter.read();
        assert_eq!((minute, day), (700, 700), "what was refused has taken nothing");
    }

    #[test]
    fn a_meter_is_over_with_its_last_window() {
        let (meter, quotas) = (Meter::default(), Quotas([Some(9), None, Some(9), None]));
        let noon = 1_000_000_000 / 86_400 * 86_400 + 43_200;
        meter.take(&quotas, at(noon)).expect("room");
        assert!(!meter.is_over(at(noon)) && !meter.is_over(at(noon + 43_199)));
        assert!(meter.is_over(at(noon + 43_200)));
    }

    #[test]
    fn fields_tell_of_each_window() {
        let left = Meter::default().take(&Quotas([Some(5), None, None, Some(9)]), at(1_000_000_000)).expect("room");
        let (policy, limit) = fields(&left);
        // September 2001 has 30 days, of which some 22 are left.
        assert_eq!(policy, "\"second\";q=5;w=1, \"month\";q=9;w=2592000");
        assert_eq!(limit, "\"second\";r=4;t=1, \"month\";r=8;t=1894400");
    }
}

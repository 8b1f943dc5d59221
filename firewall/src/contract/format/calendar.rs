//! Dates and times that jsonschema does not know: HTTP's three forms, and those without an offset.

const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// RFC 3339's `full-date "T" partial-time`, as RFC 9557 names it.
pub(super) fn is_local_date_time(text: &str) -> bool {
    text.split_once(['T', 't'])
        .is_some_and(|(date, time)| is_full_date(date) && is_local_time(time))
}

/// RFC 3339's `partial-time`. As the offset is not known, a leap second may end any minute.
pub(super) fn is_local_time(text: &str) -> bool {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
    is_clock(clock) && fraction.is_none_or(|digits| !digits.is_empty() && is_digits(digits))
}

fn is_full_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut part = |digits| parts.next().and_then(|part| number(part, digits));
    let (Some(year), Some(month), Some(day)) = (part(4), part(2), part(2)) else { return false };
    parts.next().is_none() && is_date(year, month, day)
}

/// `HTTP-date` in each form that a recipient must accept (RFC 9110 section 5.6.7). Where the year is
/// whole, the day of the week must be the date's (RFC 5322 section 3.3).
pub(super) fn is_http_date(text: &str) -> bool {
    match text.split_once(", ") {
        Some((day_name, rest)) if day_name.len() == 3 => is_fixed_date(day_name, rest),
        Some((day_name, rest)) => DAYS.contains(&day_name) && is_rfc850_date(rest),
        None => is_asctime_date(text),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`, from behind the comma.
fn is_fixed_date(day_name: &str, text: &str) -> bool {
    let mut parts = text.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let (day, month, year, clock, zone) = (part(), part(), part(), part(), part());
    let (Some(day), Some(month), Some(year)) = (number(day, 2), month_of(month), number(year, 4))
    else {
        return false;
    };
    is_clock(clock)
        && zone == "GMT"
        && parts.next().is_none()
        && is_date(year, month, day)
        && is_day_of_week(day_name, year, month, day)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`, from behind the comma. Whether February has 29 days depends on
/// a century that is not written.
fn is_rfc850_date(text: &str) -> bool {
    let mut parts = text.split(' ');
    let mut part = || parts.next().unwrap_or_default();
    let (date, clock, zone) = (part(), part(), part());
    let mut fields = date.split('-');
    let mut field = || fields.next().unwrap_or_default();
    let (Some(day), Some(month), Some(year)) =
        (number(field(), 2), month_of(field()), number(field(), 2))
    else {
        return false;
    };
    fields.next().is_none()
        && is_clock(clock)
        && zone == "GMT"
        && parts.next().is_none()
        && (is_date(1900 + year, month, day) || is_date(2000 + year, month, day))
}

/// `Sun Nov  6 08:49:37 1994`.
fn is_asctime_date(text: &str) -> bool {
    let fields = (text.get(..3), text.get(3..8), text.get(8..10), text.get(10..20), text.get(20..));
    let (Some(day_name), Some(month), Some(day), Some(clock), Some(year)) = fields else {
        return false;
    };
    let month = month.strip_prefix(' ').and_then(|month| month.strip_suffix(' '));
    let clock = clock.strip_prefix(' ').and_then(|clock| clock.strip_suffix(' '));
    let day = day.strip_prefix(' ').map_or_else(|| number(day, 2), |digit| number(digit, 1));
    let (Some(month), Some(day), Some(year)) = (month.and_then(month_of), day, number(year, 4))
    else {
        return false;
    };
    clock.is_some_and(is_clock)
        && is_date(year, month, day)
        && is_day_of_week(day_name, year, month, day)
}

/// `08:49:37`; 60 seconds are a leap second.
fn is_clock(text: &str) -> bool {
    let mut parts = text.split(':');
    let mut part = || parts.next().and_then(|part| number(part, 2));
    let (Some(hour), Some(minute), Some(second)) = (part(), part(), part()) else { return false };
    parts.next().is_none() && hour < 24 && minute < 60 && second <= 60
}

fn is_date(year: u32, month: u32, day: u32) -> bool {
    let is_leap = year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Whether `name` are the first three letters of the day's (Sakamoto's method, proleptic Gregorian).
fn is_day_of_week(name: &str, year: u32, month: u32, day: u32) -> bool {
    let year = if month < 3 { year + 399 } else { year + 400 };
    let shift = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let shift = month.checked_sub(1).and_then(|month| shift.get(month as usize)).unwrap_or(&0);
    let index = (year + year / 4 - year / 100 + year / 400 + shift + day) % 7;
    DAYS.get(index as usize).and_then(|day| day.get(..3)) == Some(name)
}

fn month_of(name: &str) -> Option<u32> {
    (1..).zip(MONTHS).find_map(|(month, known)| (known == name).then_some(month))
}

/// A number of exactly so many digits, four at most.
fn number(text: &str, digits: usize) -> Option<u32> {
    (text.len() == digits && is_digits(text)).then(|| text.parse().ok()).flatten()
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit())
}

//! Decimal numbers: the shortest that stands for a floating-point number, and what comes of several.

/// Places behind the point of a quotient.
const PLACES: i32 = 16;

/// `digits` times ten to the power of `exponent`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    digits: i128,
    exponent: i32,
}

impl Decimal {
    /// The shortest that a number is read as.
    pub(super) fn of(number: f64) -> Decimal {
        let text = format!("{number:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let places = mantissa.split_once('.').map_or(0, |(_, places)| places.len() as i32);
        let digits = mantissa.replace('.', "").parse().unwrap_or(0);
        Decimal { digits, exponent: exponent.parse::<i32>().unwrap_or(0) - places }
    }

    /// The nearest number.
    pub(super) fn to_float(self) -> f64 {
        format!("{}e{}", self.digits, self.exponent).parse().unwrap_or(f64::NAN)
    }

    /// Both with one exponent; if the digits do not suffice, what is much smaller is nothing.
    fn aligned(self, other: Decimal) -> (i128, i128, i32) {
        let least = self.exponent.min(other.exponent);
        let raised = |of: Decimal| {
            let power = u32::try_from(of.exponent - least).ok().and_then(|places| 10i128.checked_pow(places));
            power.and_then(|power| of.digits.checked_mul(power))
        };
        match (raised(self), raised(other)) {
            (Some(one), Some(two)) => (one, two, least),
            (None, _) => (self.digits, 0, self.exponent),
            (_, None) => (0, other.digits, other.exponent),
        }
    }

    fn checked(digits: Option<i128>, exponent: i32) -> Result<Decimal, String> {
        digits.map(|digits| Decimal { digits, exponent }).ok_or_else(|| "the number is too large".into())
    }

    /// The sum.
    ///
    /// # Errors
    /// If it is too large.
    pub(super) fn plus(self, other: Decimal) -> Result<Decimal, String> {
        let (one, two, exponent) = self.aligned(other);
        Decimal::checked(one.checked_add(two), exponent)
    }

    /// The difference.
    ///
    /// # Errors
    /// If it is too large.
    pub(super) fn minus(self, other: Decimal) -> Result<Decimal, String> {
        let (one, two, exponent) = self.aligned(other);
        Decimal::checked(one.checked_sub(two), exponent)
    }

    /// The product.
    ///
    /// # Errors
    /// If it is too large.
    pub(super) fn times(self, other: Decimal) -> Result<Decimal, String> {
        let exact = self.digits.checked_mul(other.digits);
        match exact {
            Some(_) => Decimal::checked(exact, self.exponent + other.exponent),
            None => Ok(Decimal::of(self.to_float() * other.to_float())),
        }
    }

    /// The quotient, to 16 places, rounded.
    ///
    /// # Errors
    /// If it is that of 0.
    pub(super) fn divided_by(self, other: Decimal) -> Result<Decimal, String> {
        if other.digits == 0 {
            return Err("division by zero".into());
        }
        let shift = self.exponent - other.exponent + PLACES;
        let power = 10i128.checked_pow(shift.unsigned_abs());
        let parts = match (power, shift >= 0) {
            (Some(power), true) => self.digits.checked_mul(power).map(|raised| (raised, other.digits)),
            (Some(power), false) => other.digits.checked_mul(power).map(|raised| (self.digits, raised)),
            (None, _) => None,
        };
        let Some((one, two)) = parts else { return Ok(Decimal::of(self.to_float() / other.to_float())) };
        let (quotient, rest) = (one / two, one % two);
        let is_up = rest.unsigned_abs() >= two.unsigned_abs() - rest.unsigned_abs();
        let sign = if (one < 0) == (two < 0) { 1 } else { -1 };
        Ok(Decimal { digits: quotient + if is_up { sign } else { 0 }, exponent: -PLACES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_people_count() {
        let of = Decimal::of;
        assert_eq!(of(0.1).plus(of(0.2)).unwrap().to_float(), 0.3);
        assert_eq!(of(0.3).minus(of(0.1)).unwrap().to_float(), 0.2);
        assert_eq!(of(0.1).times(of(3.0)).unwrap().to_float(), 0.3);
        assert_eq!(of(1.0).divided_by(of(3.0)).unwrap().to_float(), 0.3333333333333333);
        assert_eq!(of(-1.0).divided_by(of(4.0)).unwrap().to_float(), -0.25);
        assert_eq!(of(1e300).plus(of(1e-300)).unwrap().to_float(), 1e300);
        assert_eq!(of(1e300).times(of(1e300)).unwrap().to_float(), f64::INFINITY);
        assert!(of(1.0).divided_by(of(0.0)).is_err());
    }
}

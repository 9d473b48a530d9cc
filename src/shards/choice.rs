//! Which shard a run makes: by the flag, or by what a scheduler says in the environment.

use crate::error::{Error, Result};

/// Which shard, counted from 1, and how many there are, if that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardChoice {
    /// From 1 on.
    pub number: u32,
    /// Of so many.
    pub of: Option<u32>,
    /// Who says so, for errors.
    pub said_by: String,
}

/// Looks up an environment variable; empty is as if not set.
pub type Variables<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Slurm's variables of a task of an array job (sbatch(1), "OUTPUT ENVIRONMENT VARIABLES").
const SLURM: &str = "SLURM_ARRAY_TASK_ID";
/// That of a pod of an Indexed Job of Kubernetes, which counts from 0.
const KUBERNETES: &str = "JOB_COMPLETION_INDEX";

impl ShardChoice {
    /// Reads `I/N`, with `I` from 1 to `N`.
    ///
    /// # Errors
    /// If it is written otherwise.
    pub fn parse(text: &str) -> Result<ShardChoice, String> {
        let wrong = || format!("{text:?} is not I/N, with I from 1 to N: the first of four shards is 1/4");
        let (number, of) = text.split_once('/').ok_or_else(wrong)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok());
        let (number, of) = (digits(number).flatten().ok_or_else(wrong)?, digits(of).flatten().ok_or_else(wrong)?);
        match (1..=of).contains(&number) {
            true => Ok(ShardChoice { number, of: Some(of), said_by: "--shard".into() }),
            false => Err(wrong()),
        }
    }

    /// What a scheduler says: Slurm of an array job, or Kubernetes of an Indexed Job. The smallest index of an array is
    /// shard 1, whatever it is.
    ///
    /// # Errors
    /// If both say something, or what one says makes no sense.
    pub fn of_scheduler(variables: &Variables) -> Result<Option<ShardChoice>> {
        let said = |name: &str| variables(name).filter(|value| !value.is_empty());
        match (said(SLURM), said(KUBERNETES)) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                let why = format!("both ${SLURM} and ${KUBERNETES} are set, and either says which shard is meant");
                Err(Error::usage(why).hint("--shard I/N says it, whatever they do"))
            }
            (Some(id), None) => ShardChoice::of_slurm(&id, &said).map(Some),
            (None, Some(index)) => {
                let number = number(KUBERNETES, &index)?.checked_add(1);
                let number = number.ok_or_else(|| Error::usage(format!("${KUBERNETES}={index} is no index")))?;
                Ok(Some(ShardChoice {
                    number,
                    of: None,
                    said_by: format!("${KUBERNETES}={index}, which counts from 0,"),
                }))
            }
        }
    }

    fn of_slurm(id: &str, said: &Variables) -> Result<ShardChoice> {
        let [min, count, step] = ["MIN", "COUNT", "STEP"].map(|what| {
            let name = format!("SLURM_ARRAY_TASK_{what}");
            said(&name).map(|value| number(&name, &value)).transpose()
        });
        let (id_number, min, count, step) = (number(SLURM, id)?, min?, count?, step?.unwrap_or(1).max(1));
        let (Some(min), Some(count)) = (min, count) else {
            let why = format!("${SLURM} is set, but $SLURM_ARRAY_TASK_MIN or $SLURM_ARRAY_TASK_COUNT is not");
            return Err(Error::usage(why).hint("--shard I/N says which shard is meant"));
        };
        let beyond = id_number.checked_sub(min).filter(|beyond| beyond % step == 0 && beyond / step < count);
        let said_by = format!("${SLURM}={id}, with the array from {min} on and {count} tasks,");
        match beyond {
            Some(beyond) => Ok(ShardChoice { number: beyond / step + 1, of: Some(count), said_by }),
            None => Err(Error::usage(format!("{said_by} is no task of an array without gaps"))
                .hint("submit all tasks of the array, --array=1-N, or give --shard I/N")),
        }
    }

    /// Whether a plan with so many shards is meant.
    ///
    /// # Errors
    /// If it has others.
    pub fn check(&self, shards: u32) -> Result<()> {
        let ShardChoice { number, of, said_by } = self;
        let of_them = of.map_or(String::new(), |of| format!(" of {of}"));
        match of.is_none_or(|of| of == shards) && *number <= shards {
            true => Ok(()),
            false => Err(Error::usage(format!("{said_by} means shard {number}{of_them}, but the plan has {shards}"))),
        }
    }
}

fn number(name: &str, value: &str) -> Result<u32> {
    value.parse().map_err(|_| Error::usage(format!("${name} is {value:?}, which is no number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(set: &[(&str, &str)]) -> Result<Option<(u32, Option<u32>)>, String> {
        let look = |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string());
        let choice = ShardChoice::of_scheduler(&look).map_err(|e| e.to_string())?;
        Ok(choice.map(|choice| (choice.number, choice.of)))
    }

    #[test]
    fn schedulers_say_which_shard() {
        let slurm = |id, min, count| {
            [("SLURM_ARRAY_TASK_ID", id), ("SLURM_ARRAY_TASK_MIN", min), ("SLURM_ARRAY_TASK_COUNT", count)]
        };
        assert_eq!(chosen(&[]), Ok(None));
        assert_eq!(chosen(&slurm("3", "1", "4")), Ok(Some((3, Some(4)))));
        assert_eq!(chosen(&slurm("0", "0", "4")), Ok(Some((1, Some(4)))));
        let stepped = [&slurm("4", "0", "3")[..], &[("SLURM_ARRAY_TASK_STEP", "2")]].concat();
        assert_eq!(chosen(&stepped), Ok(Some((3, Some(3)))));
        assert_eq!(chosen(&[("JOB_COMPLETION_INDEX", "0")]), Ok(Some((1, None))));
        assert_eq!(chosen(&[("JOB_COMPLETION_INDEX", "")]), Ok(None));
        for (set, why) in [
            (&slurm("5", "1", "4")[..], "no task of an array without gaps"),
            (&slurm("x", "1", "4")[..], "$SLURM_ARRAY_TASK_ID is \"x\""),
            (&[("SLURM_ARRAY_TASK_ID", "1")][..], "is not"),
            (&[("JOB_COMPLETION_INDEX", "4294967295")][..], "no index"),
            (&[("JOB_COMPLETION_INDEX", "1"), ("SLURM_ARRAY_TASK_ID", "1")][..], "both"),
        ] {
            let told = chosen(set).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn a_shard_is_one_of_those_of_the_plan() {
        let of_four = ShardChoice::parse("4/4").unwrap();
        assert!(of_four.check(4).is_ok() && of_four.check(5).is_err());
        for wrong in ["0/4", "5/4", "1", "1/", "/4", "+1/4", "a/b", "1/4/4", "1/99999999999"] {
            assert!(ShardChoice::parse(wrong).is_err(), "{wrong}");
        }
    }
}

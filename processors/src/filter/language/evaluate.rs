//! What trees and atoms come to.

use super::value::compare;
use super::{Datum, Expression, Path, Predicate, Term, Tree};

/// What a condition asks: the resource, profile, sample or frame at hand.
pub(crate) trait Environment {
    /// The value at a path.
    fn get(&self, path: &Path) -> Datum<'_>;
}

/// Why a condition has no answer: a value is of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What a condition came to; small, because one is remembered for each row of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Outcome {
    /// It was not asked yet.
    #[default]
    Unknown,
    False,
    True,
    /// It has no answer.
    Fault,
}

impl From<bool> for Outcome {
    fn from(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }
}

impl Tree {
    /// What the tree comes to, where `atom` tells what each atom does; from left to right, and no
    /// further than needed.
    pub(crate) fn evaluate(&self, atom: &mut impl FnMut(usize) -> Outcome) -> Outcome {
        match self {
            Self::Constant(truth) => (*truth).into(),
            Self::Atom(number) => atom(*number),
            Self::Not(inner) => match inner.evaluate(atom) {
                Outcome::True => Outcome::False,
                Outcome::False => Outcome::True,
                other => other,
            },
            Self::And(all) => {
                for part in all {
                    match part.evaluate(atom) {
                        Outcome::True => {}
                        other => return other,
                    }
                }
                Outcome::True
            }
            Self::Or(any) => {
                for part in any {
                    match part.evaluate(atom) {
                        Outcome::False => {}
                        other => return other,
                    }
                }
                Outcome::False
            }
        }
    }
}

impl Expression {
    /// Asks everything anew.
    #[cfg(test)]
    pub(crate) fn ask(&self, environment: &impl Environment) -> Outcome {
        self.tree.evaluate(&mut |atom| self.ask_atom(atom, environment))
    }

    /// Asks one atom.
    pub(crate) fn ask_atom(&self, atom: usize, environment: &impl Environment) -> Outcome {
        let Some(found) = self.atoms.get(atom) else { return Outcome::Fault };
        let answer = match &found.question {
            Predicate::Compare(left, operator, right) => left
                .value(environment)
                .and_then(|left| Ok(compare(&left, *operator, &right.value(environment)?))),
            Predicate::Test(term) => {
                term.value(environment).map(|value| value == Datum::Bool(true))
            }
            // Whoever knows stacks asks their frames.
            Predicate::Stack(..) => return Outcome::Fault,
        };
        answer.map_or(Outcome::Fault, Outcome::from)
    }

    /// Why the condition has no answer, for a message.
    pub(crate) fn fault(&self, environment: &impl Environment) -> Option<Fault> {
        self.atoms.iter().find_map(|atom| match &atom.question {
            Predicate::Compare(left, _, right) => {
                left.value(environment).and_then(|_| right.value(environment)).err()
            }
            Predicate::Test(term) => term.value(environment).err(),
            Predicate::Stack(..) => None,
        })
    }
}

impl Term {
    fn value<'a>(&'a self, environment: &'a impl Environment) -> Result<Datum<'a>, Fault> {
        match self {
            Self::Literal(literal) => Ok(Datum::literal(literal)),
            Self::Path(path) => Ok(environment.get(path)),
            Self::Call(function, terms) => {
                let values: Result<Vec<_>, _> =
                    terms.iter().map(|term| term.value(environment)).collect();
                function.apply(&values?)
            }
            Self::Match(term, regex) => {
                let value = term.value(environment)?;
                Ok(Datum::Bool(value.to_text().is_some_and(|text| regex.is_match(&text))))
            }
        }
    }
}

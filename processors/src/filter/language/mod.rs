//! Conditions: the part of OTTL, the Collector's language, that makes sense of profiles.
//!
//! A condition is text such as `resource.attributes["service.name"] == "shop" and not
//! IsMatch(profile.sample_type.type, "^alloc")`. It is read once, when the configuration is; what
//! is not understood is a [`Mistake`] that says where it stands and what could stand there.
//!
//! An [`Expression`] is a tree of `and`, `or` and `not` over *atoms*, each of which compares or
//! asks one thing. Atoms are numbered, so that whoever evaluates a tree can remember what an atom
//! came to for a row of a table ([`Kind`] says of which) and never asks it twice.
//!
//! # What it promises
//! - As in the Collector `nil` is what is not there, numbers compare across their types, values of
//!   different types are unequal and nothing else.
//! - Regular expressions take time linear in the text; their size and the depth of a condition are
//!   bounded.
//!
//! # Layout
//! `lexer`: words. `paths`: what can be asked. `functions`: what can be computed. `parser`: the
//! grammar. `value`: comparing. `evaluate`: atoms and trees.

mod evaluate;
mod functions;
mod lexer;
mod parser;
mod paths;
mod value;

#[cfg(test)]
mod tests;

pub(super) use evaluate::{Environment, Fault, Outcome};
use functions::Function;
pub(super) use parser::parse;
pub(super) use paths::{Context, Field, Key, Kind, Level, Path};
pub(super) use value::{Datum, hex};

use regex::Regex;

/// What a condition says, ready to be asked.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) tree: Tree,
    pub(super) atoms: Vec<Atom>,
    /// The deepest level that it asks about.
    pub(super) level: Level,
}

/// How atoms are put together.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    Constant(bool),
    Atom(usize),
    Not(Box<Tree>),
    And(Vec<Tree>),
    Or(Vec<Tree>),
}

/// One question.
#[derive(Debug, Clone)]
pub(super) struct Atom {
    pub(super) question: Predicate,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Predicate {
    /// `left == right`.
    Compare(Term, Operator, Term),
    /// A function that answers yes or no.
    Test(Term),
    /// Whether frames of the stack fulfil a condition of their own.
    Stack(Which, Box<Expression>),
}

/// Which frames of a stack are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Any of them.
    Any,
    /// The innermost.
    Leaf,
    /// The outermost.
    Root,
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    Literal(Literal),
    Path(Path),
    Call(Function, Vec<Term>),
    /// `IsMatch` with its expression compiled.
    Match(Box<Term>, Regex),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Nil,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// What is wrong with a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    /// The character where it begins, counted from 0.
    pub(super) at: usize,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

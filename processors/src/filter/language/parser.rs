//! The grammar of conditions: `or` over `and` over `not` over comparisons and functions.

use super::functions::{self, Function};
use super::lexer::{Token, tokens};
use super::paths::{Field, Key};
use super::{
    Atom, Context, Expression, Kind, Level, Literal, Mistake, Operator, Path, Predicate, Term,
    Tree, Which,
};
use crate::actions::compile;

/// The longest condition, in bytes.
const MAX_LENGTH: usize = 16 << 10;
/// Parentheses within each other.
const MAX_DEPTH: usize = 32;

/// Reads a condition that stands in this context.
pub(crate) fn parse(text: &str, context: Context) -> Result<Expression, Mistake> {
    if text.len() > MAX_LENGTH {
        return Err(Mistake::new(0, format!("a condition has at most {MAX_LENGTH} bytes")));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, context, atoms: Vec::new(), depth: 0, level: None };
    let tree = parser.any()?;
    match parser.peek() {
        Token::End => Ok(parser.expression(tree)),
        Token::Sign(sign @ ("&&" | "||" | "=" | "!")) => {
            let meant = match *sign {
                "&&" => "`and`",
                "||" => "`or`",
                "=" => "`==`",
                _ => "`not`",
            };
            Err(parser.mistake(format!("`{sign}` is not known here; write {meant}")))
        }
        other => {
            let shown = other.shown();
            Err(parser.mistake(format!("found {shown}, expected `and`, `or` or the end")))
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    context: Context,
    atoms: Vec<Atom>,
    depth: usize,
    /// The deepest level asked about so far.
    level: Option<Level>,
}

/// A value, and how what asks only about it is remembered; nothing for a literal.
struct Operand {
    at: usize,
    term: Term,
    kind: Option<Kind>,
    /// It answers yes or no.
    is_test: bool,
}

impl Parser {
    fn expression(self, tree: Tree) -> Expression {
        Expression { tree, atoms: self.atoms, level: self.level.unwrap_or(Level::Resource) }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(0, |(at, _)| *at)
    }

    fn mistake(&self, message: impl Into<String>) -> Mistake {
        Mistake::new(self.at(), message)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn takes_name(&mut self, name: &str) -> bool {
        let there = matches!(self.peek(), Token::Name(found) if found == name);
        self.next += usize::from(there);
        there
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.next += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.takes_sign(sign) {
            return Ok(());
        }
        let shown = self.peek().shown();
        Err(self.mistake(format!("found {shown}, expected `{sign}`")))
    }

    fn any(&mut self) -> Result<Tree, Mistake> {
        let mut parts = vec![self.all()?];
        while self.takes_name("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Or(parts) })
    }

    fn all(&mut self) -> Result<Tree, Mistake> {
        let mut parts = vec![self.one()?];
        while self.takes_name("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::And(parts) })
    }

    fn one(&mut self) -> Result<Tree, Mistake> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.mistake(format!("more than {MAX_DEPTH} parentheses and `not`")));
        }
        let tree = if self.takes_name("not") {
            Tree::Not(Box::new(self.one()?))
        } else if self.takes_sign("(") {
            let tree = self.any()?;
            self.expect(")")?;
            tree
        } else if let Some(which) = self.quantifier() {
            self.stack(which)?
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn quantifier(&self) -> Option<Which> {
        match self.peek() {
            Token::Name(name) => match name.as_str() {
                "AnyFrame" => Some(Which::Any),
                "LeafFrame" => Some(Which::Leaf),
                "RootFrame" => Some(Which::Root),
                _ => None,
            },
            _ => None,
        }
    }

    /// `AnyFrame(…)`, with a condition of frames.
    fn stack(&mut self, which: Which) -> Result<Tree, Mistake> {
        if self.context.deepest() != Level::Sample {
            return Err(
                self.mistake("frames of a stack can be asked about in conditions of samples")
            );
        }
        self.take();
        self.expect("(")?;
        let atoms = std::mem::take(&mut self.atoms);
        let (context, level) = (self.context, self.level.replace(Level::Frame));
        self.context = Context::Frame;
        let tree = self.any()?;
        self.context = context;
        self.level = level.max(Some(Level::Sample));
        let inner = std::mem::replace(&mut self.atoms, atoms);
        self.expect(")")?;
        let condition = Expression { tree, atoms: inner, level: Level::Frame };
        Ok(self.atom(Predicate::Stack(which, Box::new(condition)), Kind::Stack))
    }

    fn atom(&mut self, question: Predicate, kind: Kind) -> Tree {
        self.atoms.push(Atom { question, kind });
        Tree::Atom(self.atoms.len() - 1)
    }

    fn comparison(&mut self) -> Result<Tree, Mistake> {
        let left = self.operand()?;
        let operator = match self.peek() {
            Token::Sign("==") => Operator::Equal,
            Token::Sign("!=") => Operator::Unequal,
            Token::Sign("<") => Operator::Less,
            Token::Sign("<=") => Operator::AtMost,
            Token::Sign(">") => Operator::Greater,
            Token::Sign(">=") => Operator::AtLeast,
            Token::Sign("=") => return Err(self.mistake("`=` is not known here; write `==`")),
            Token::Sign(sign @ ("+" | "-" | "*" | "/")) => {
                return Err(self.mistake(format!("`{sign}`: arithmetic is not supported")));
            }
            _ => return self.alone(left),
        };
        self.take();
        let right = self.operand()?;
        if let Token::Sign(sign @ ("+" | "-" | "*" | "/")) = self.peek() {
            return Err(self.mistake(format!("`{sign}`: arithmetic is not supported")));
        }
        let kind = both(left.kind, right.kind);
        Ok(self.atom(Predicate::Compare(left.term, operator, right.term), kind))
    }

    /// A value that is a condition by itself.
    fn alone(&mut self, operand: Operand) -> Result<Tree, Mistake> {
        match operand.term {
            Term::Literal(Literal::Bool(truth)) => Ok(Tree::Constant(truth)),
            term if operand.is_test => {
                Ok(self.atom(Predicate::Test(term), operand.kind.unwrap_or(Kind::Profile)))
            }
            _ => {
                let message = "a value alone is not a condition; compare it, as in `… == true`, with \
                               ==, !=, <, <=, > or >=";
                Err(Mistake::new(operand.at, message))
            }
        }
    }

    fn operand(&mut self) -> Result<Operand, Mistake> {
        let at = self.at();
        let literal =
            |literal| Ok(Operand { at, term: Term::Literal(literal), kind: None, is_test: false });
        match self.peek().clone() {
            Token::Text(text) => {
                self.take();
                literal(Literal::Text(text))
            }
            Token::Int(number) => {
                self.take();
                literal(Literal::Int(number))
            }
            Token::Double(number) => {
                self.take();
                literal(Literal::Double(number))
            }
            Token::Name(name) => match name.as_str() {
                "true" | "false" => {
                    self.take();
                    literal(Literal::Bool(name == "true"))
                }
                "nil" => {
                    self.take();
                    literal(Literal::Nil)
                }
                _ if matches!(self.tokens.get(self.next + 1), Some((_, Token::Sign("(")))) => {
                    self.call(&name)
                }
                _ => self.path(),
            },
            Token::Sign("[" | "{") => {
                Err(self.mistake("lists and maps are not supported; compare with `or`"))
            }
            Token::Sign("!") => Err(self.mistake("`!` is not known here; write `not`")),
            other => {
                let message = format!(
                    "found {}, expected a path, a function, a text in double quotes, a number, \
                     `true`, `false` or `nil`",
                    other.shown()
                );
                Err(self.mistake(message))
            }
        }
    }

    fn call(&mut self, name: &str) -> Result<Operand, Mistake> {
        let at = self.at();
        let known = Function::named(name);
        if known.is_none() && name != "IsMatch" {
            let frames = if self.context.deepest() == Level::Sample {
                ", AnyFrame, LeafFrame, RootFrame"
            } else {
                ""
            };
            let accepted = functions::ACCEPTED;
            return Err(
                self.mistake(format!("there is no function `{name}`; use {accepted}{frames}"))
            );
        }
        self.take();
        self.expect("(")?;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.mistake(format!("more than {MAX_DEPTH} parentheses and `not`")));
        }
        let mut operands = Vec::new();
        while !self.takes_sign(")") {
            if !operands.is_empty() {
                self.expect(",")?;
            }
            operands.push(self.operand()?);
        }
        self.depth -= 1;
        let wanted = known.map_or(2, |(_, count, _)| count);
        if operands.len() != wanted {
            let values = if wanted == 1 { "value" } else { "values" };
            let found = operands.len();
            return Err(Mistake::new(at, format!("`{name}` takes {wanted} {values}, not {found}")));
        }
        let kind = operands.iter().fold(None, |kind: Option<Kind>, operand| {
            match (kind, operand.kind.clone()) {
                (None, other) | (other, None) => other,
                (left, right) => Some(both(left, right)),
            }
        });
        let (term, is_test) = match known {
            Some((function, _, is_test)) => {
                let terms = operands.into_iter().map(|operand| operand.term).collect();
                (Term::Call(function, terms), is_test)
            }
            None => (matching(operands)?, true),
        };
        Ok(Operand { at, term, kind, is_test })
    }

    /// `resource.attributes["service.name"]`.
    fn path(&mut self) -> Result<Operand, Mistake> {
        let at = self.at();
        let mut name = String::new();
        while let Token::Name(part) = self.peek().clone() {
            self.take();
            name.push_str(&part);
            if !self.takes_sign(".") {
                break;
            }
            name.push('.');
        }
        let keys = self.keys()?;
        let Some(field) = Field::named(&name, self.context) else {
            let message = if self.context == Context::Inferred
                && matches!(name.as_str(), "attributes" | "name")
            {
                format!(
                    "`{name}` does not say of what; write `resource.{name}`, \
                     `profile.{name}` or `sample.{name}`"
                )
            } else {
                let accepted = Field::accepted(self.context);
                format!("`{name}` is not known here; use {accepted}")
            };
            return Err(Mistake::new(at, message));
        };
        let path = Path { field, keys };
        self.check(&path, &name, at)?;
        self.level = self.level.max(Some(path.level()));
        let kind = Some(path.kind());
        Ok(Operand { at, term: Term::Path(path), kind, is_test: false })
    }

    fn keys(&mut self) -> Result<Vec<Key>, Mistake> {
        let mut keys = Vec::new();
        while self.takes_sign("[") {
            let key = match self.peek().clone() {
                Token::Text(text) => Key::Name(text),
                Token::Int(number) if usize::try_from(number).is_ok() && !keys.is_empty() => {
                    Key::Position(usize::try_from(number).unwrap_or_default())
                }
                other => {
                    let shown = other.shown();
                    let message = format!("found {shown}, expected a key in double quotes");
                    return Err(self.mistake(message));
                }
            };
            keys.push(key);
            self.take();
            self.expect("]")?;
        }
        Ok(keys)
    }

    fn check(&self, path: &Path, name: &str, at: usize) -> Result<(), Mistake> {
        let deep = path.level();
        let fits = match self.context {
            Context::Frame => deep == Level::Frame,
            context => deep <= context.deepest(),
        };
        let message = if !fits {
            match (self.context, deep) {
                (Context::Frame, _) => {
                    format!(
                        "`{name}` is not of a frame, and frames are the same for all who share \
                         them; use {}",
                        Field::accepted(Context::Frame)
                    )
                }
                (Context::Sample | Context::Inferred, _) => format!(
                    "`{name}` is of a frame, of which a sample has many; write `AnyFrame({name} \
                     …)`, `LeafFrame(…)` or `RootFrame(…)`"
                ),
                (context, _) => {
                    format!("`{name}` is too deep for this list; use {}", Field::accepted(context))
                }
            }
        } else if path.field.is_map() && path.keys.is_empty() {
            format!("choose an attribute: `{name}[\"key\"]`")
        } else if !path.field.is_map() && !path.keys.is_empty() {
            format!("`{name}` has no keys")
        } else {
            return Ok(());
        };
        Err(Mistake::new(at, message))
    }
}

/// `IsMatch(value, "expression")`.
fn matching(operands: Vec<Operand>) -> Result<Term, Mistake> {
    let mut operands = operands.into_iter();
    let (Some(value), Some(pattern)) = (operands.next(), operands.next()) else {
        return Err(Mistake::new(0, "`IsMatch` takes 2 values"));
    };
    let Term::Literal(Literal::Text(text)) = &pattern.term else {
        let message = "the regular expression of `IsMatch` is a text in double quotes";
        return Err(Mistake::new(pattern.at, message));
    };
    let regex = compile(text).map_err(|message| Mistake::new(pattern.at, message))?;
    Ok(Term::Match(Box::new(value.term), regex))
}

/// How an atom over two values is remembered.
fn both(left: Option<Kind>, right: Option<Kind>) -> Kind {
    match (left, right) {
        (None, None) => Kind::Profile,
        (Some(kind), None) | (None, Some(kind)) => kind,
        (Some(left), Some(right)) if left == right => left,
        _ => Kind::Other,
    }
}

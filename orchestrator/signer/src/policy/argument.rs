//! What one argument of a call, or one field of a message, may be.
//!
//! | written | allows | for |
//! |---|---|---|
//! | `"any"` | every value | all types |
//! | `X` or `{ equal = X }` | this value | all but arrays and tuples |
//! | `[X, Y]` or `{ one_of = [X, Y] }` | one of these | the same |
//! | `{ max = X }` | at most this | `uintN`, `intN` |
//! | `{ every = RULE }` | elements that the rule allows, however many | arrays |
//! | `{ field = RULE, … }` | fields that their rules allow | tuples: each field has to be there |
//!
//! A `uintN` may have `decimals`: its values are then in units of 10^decimals. `is_payment = true` says that it is an amount of a token,
//! which counts in the windows of the policy: `token` names the argument beside it that has the token's address. Without, the token is
//! the contract that is called.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use ethereum::abi::{Parameter, Type, Value};
use ethereum::address::Address;
use ethereum::hex;
use ethereum::number::{Int, MAX_DECIMALS, Uint};

use super::written::Written;

/// A rule for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Argument {
    allowed: Allowed,
    /// For numbers.
    decimals: u8,
    payment: Option<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    Any,
    OneOf(Vec<Value>),
    AtMost(Value),
    Every(Box<Argument>),
    Fields(Vec<(String, Argument)>),
}

/// What a payment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// The contract that is called, or that verifies a message.
    Contract,
    /// The argument at this place beside the amount.
    Beside(usize),
}

/// An amount of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Payment {
    /// Its contract.
    pub(crate) token: Address,
    /// In its smallest unit.
    pub(crate) amount: Uint,
}

/// The keys of a rule for a value that is neither an array nor a tuple.
const KEYS: [&str; 7] = ["equal", "one_of", "max", "any", "decimals", "is_payment", "token"];

impl Argument {
    /// Reads the rules of all parameters. `path` is where they stand.
    ///
    /// # Errors
    /// One sentence with the key and what is expected.
    pub(super) fn read_all(
        path: &str,
        written: &BTreeMap<String, Written>,
        parameters: &[Parameter],
    ) -> Result<Vec<(String, Self)>> {
        let names = || parameters.iter().map(|parameter| parameter.name.as_str()).collect::<Vec<_>>().join(", ");
        for name in written.keys() {
            ensure!(
                parameters.iter().any(|parameter| parameter.name == *name),
                "{path}.{name}: not declared, expected {}",
                if parameters.is_empty() { "no argument".to_owned() } else { format!("one of {}", names()) }
            );
        }
        let read = |parameter: &Parameter| {
            let path = format!("{path}.{}", parameter.name);
            let rule = written
                .get(&parameter.name)
                .with_context(|| format!("{path}: missing, expected {} or \"any\"", expected(&parameter.ty)))?;
            Ok((parameter.name.clone(), Self::read(&path, rule, &parameter.ty, parameters)?))
        };
        parameters.iter().map(read).collect()
    }

    fn read(path: &str, written: &Written, ty: &Type, beside: &[Parameter]) -> Result<Self> {
        if matches!(written, Written::Text(word) if word == "any") {
            return Ok(Self { allowed: Allowed::Any, decimals: 0, payment: None });
        }
        let allowed = match (ty, written) {
            (Type::Tuple(fields), Written::Table(table)) => Allowed::Fields(Self::read_all(path, table, fields)?),
            (Type::Array(element, _), Written::Table(table)) => {
                let rule = match table.iter().next() {
                    Some((key, rule)) if key == "every" && table.len() == 1 => rule,
                    _ => bail!("{path}: {ty} is an array, expected {}", expected(ty)),
                };
                let path = format!("{path}.every");
                Allowed::Every(Box::new(Self::read(&path, rule, element, &[])?))
            }
            (Type::Tuple(_) | Type::Array(..), other) => bail!("{path}: {other} for {ty}, expected {}", expected(ty)),
            (_, Written::Table(table)) => return Self::table(path, table, ty, beside),
            (_, Written::List(list)) => one_of(path, list, ty, 0)?,
            (_, scalar) => Allowed::OneOf(vec![value(path, scalar, ty, 0)?]),
        };
        Ok(Self { allowed, decimals: 0, payment: None })
    }

    fn table(path: &str, table: &BTreeMap<String, Written>, ty: &Type, beside: &[Parameter]) -> Result<Self> {
        for key in table.keys() {
            ensure!(KEYS.contains(&key.as_str()), "{path}.{key}: unknown, expected one of {}", KEYS.join(", "));
        }
        let decimals = decimals(path, table.get("decimals"), ty)?;
        let [equal, list, max, any] = ["equal", "one_of", "max", "any"].map(|key| table.get(key));
        let at = |key: &str| format!("{path}.{key}");
        let allowed = match (equal, list, max, any) {
            (Some(equal), None, None, None) => Allowed::OneOf(vec![value(&at("equal"), equal, ty, decimals)?]),
            (None, Some(Written::List(list)), None, None) => one_of(&at("one_of"), list, ty, decimals)?,
            (None, Some(other), None, None) => bail!("{path}.one_of: {other}, expected a list"),
            (None, None, Some(max), None) => {
                let is_number = matches!(ty, Type::Uint(_) | Type::Int(_));
                ensure!(is_number, "{path}.max: {ty} has no order, expected equal, one_of or \"any\"");
                Allowed::AtMost(value(&at("max"), max, ty, decimals)?)
            }
            (None, None, None, Some(Written::Bool(true))) => Allowed::Any,
            _ => bail!("{path}: expected exactly one of equal, one_of, max and any = true"),
        };
        Ok(Self { allowed, decimals, payment: payment(path, table, ty, beside)? })
    }

    /// The first thing in `value` that is not allowed, and what is. `path` is its name.
    pub(super) fn check(&self, path: &str, value: &Value) -> Result<(), String> {
        match &self.allowed {
            Allowed::Any => Ok(()),
            Allowed::OneOf(values) if values.contains(value) => Ok(()),
            Allowed::OneOf(values) => Err(match &values[..] {
                [only] => format!("{path}: {}, expected {}", self.shown(value), self.shown(only)),
                _ => format!("{path}: {} is not among the {} that are allowed", self.shown(value), values.len()),
            }),
            Allowed::AtMost(max) if value <= max => Ok(()),
            Allowed::AtMost(max) => Err(format!("{path}: {}, at most {}", self.shown(value), self.shown(max))),
            Allowed::Every(rule) => {
                let mut elements = list(value).iter().enumerate();
                elements.try_for_each(|(at, element)| rule.check(&format!("{path}[{at}]"), element))
            }
            Allowed::Fields(fields) => Self::check_all(fields, &format!("{path}."), list(value)),
        }
    }

    /// The same for values that belong together, as the arguments of a call do.
    pub(super) fn check_all(rules: &[(String, Self)], path: &str, values: &[Value]) -> Result<(), String> {
        rules.iter().zip(values).try_for_each(|((name, rule), value)| rule.check(&format!("{path}{name}"), value))
    }

    /// Adds what these values pay.
    pub(super) fn payments(rules: &[(String, Self)], values: &[Value], contract: Address, out: &mut Vec<Payment>) {
        rules.iter().zip(values).for_each(|((_, rule), value)| rule.add_payments(value, values, contract, out));
    }

    fn add_payments(&self, value: &Value, beside: &[Value], contract: Address, out: &mut Vec<Payment>) {
        match &self.allowed {
            Allowed::Every(rule) => list(value).iter().for_each(|value| rule.add_payments(value, &[], contract, out)),
            Allowed::Fields(fields) => Self::payments(fields, list(value), contract, out),
            Allowed::Any | Allowed::OneOf(_) | Allowed::AtMost(_) => {
                let token = self.payment.and_then(|token| token.address(contract, beside));
                if let (Some(token), Value::Uint(amount)) = (token, value) {
                    out.push(Payment { token, amount: *amount });
                }
            }
        }
    }

    /// Whether any amount in it is a payment.
    pub(super) fn pays(rules: &[(String, Self)]) -> bool {
        rules.iter().any(|(_, rule)| rule.is_paying())
    }

    fn is_paying(&self) -> bool {
        match &self.allowed {
            Allowed::Every(rule) => rule.is_paying(),
            Allowed::Fields(fields) => Self::pays(fields),
            Allowed::Any | Allowed::OneOf(_) | Allowed::AtMost(_) => self.payment.is_some(),
        }
    }

    fn shown(&self, value: &Value) -> String {
        if let Value::Uint(number) = value
            && self.decimals > 0
        {
            return number.in_units(self.decimals);
        }
        value.to_string()
    }
}

impl Token {
    fn address(self, contract: Address, beside: &[Value]) -> Option<Address> {
        match self {
            Self::Contract => Some(contract),
            Self::Beside(at) => match beside.get(at) {
                Some(Value::Address(token)) => Some(*token),
                _ => None,
            },
        }
    }
}

/// Values of arrays and tuples; the type says that it is one.
fn list(value: &Value) -> &[Value] {
    match value {
        Value::List(values) => values,
        Value::Address(_) | Value::Bool(_) | Value::Uint(_) | Value::Int(_) | Value::Bytes(_) | Value::String(_) => &[],
    }
}

/// What a rule for the type looks like.
fn expected(ty: &Type) -> String {
    match ty {
        Type::Address => "a list of addresses".to_owned(),
        Type::Bool => "true or false".to_owned(),
        Type::Uint(_) => "a limit such as { max = \"1000\", decimals = 6 }".to_owned(),
        Type::Int(_) => "a limit such as { max = 1000 }".to_owned(),
        Type::FixedBytes(_) | Type::Bytes => "a list such as [\"0x00\"]".to_owned(),
        Type::String => "a list of texts".to_owned(),
        Type::Array(element, _) if matches!(**element, Type::Tuple(_)) => "{ every = { FIELD = RULE, … } }".to_owned(),
        Type::Array(..) => "{ every = RULE }, a rule for all elements".to_owned(),
        Type::Tuple(fields) => {
            let fields: Vec<_> = fields.iter().map(|field| format!("{} = RULE", field.name)).collect();
            format!("{{ {} }}", fields.join(", "))
        }
    }
}

fn one_of(path: &str, list: &[Written], ty: &Type, decimals: u8) -> Result<Allowed> {
    ensure!(!list.is_empty(), "{path}: an empty list allows no value, expected {} or \"any\"", expected(ty));
    let mut values = list.iter().map(|written| value(path, written, ty, decimals)).collect::<Result<Vec<_>>>()?;
    values.sort();
    let all = values.len();
    values.dedup();
    ensure!(values.len() == all, "{path}: an entry is written twice, expected each once");
    Ok(Allowed::OneOf(values))
}

fn value(path: &str, written: &Written, ty: &Type, decimals: u8) -> Result<Value> {
    let at = || format!("{path}: {written}");
    let bytes = |text: &str| text.strip_prefix("0x").and_then(hex::decode);
    let value = match (ty, written) {
        (Type::Address, Written::Text(text)) => Value::Address(text.parse().with_context(at)?),
        (Type::Bool, Written::Bool(is_true)) => Value::Bool(*is_true),
        (Type::Uint(bits), Written::Text(_) | Written::Integer(_)) => {
            let number = Uint::from_decimal(&digits(written), decimals).with_context(at)?;
            ensure!(number.fits(*bits), "{}: out of range of {ty}, expected at most 2^{bits} - 1", at());
            Value::Uint(number)
        }
        (Type::Int(bits), Written::Text(_) | Written::Integer(_)) => {
            let number = Int::from_decimal(&digits(written)).with_context(at)?;
            ensure!(number.fits(*bits), "{}: out of range of {ty}, expected -2^{1} to 2^{1} - 1", at(), bits - 1);
            Value::Int(number)
        }
        (Type::FixedBytes(len), Written::Text(text)) => {
            let bytes = bytes(text).filter(|bytes| bytes.len() == *len);
            Value::Bytes(bytes.with_context(|| format!("{}, expected 0x and {} hex digits", at(), 2 * len))?)
        }
        (Type::Bytes, Written::Text(text)) => {
            Value::Bytes(bytes(text).with_context(|| format!("{}, expected 0x and pairs of hex digits", at()))?)
        }
        (Type::String, Written::Text(text)) => Value::String(text.clone()),
        _ => bail!("{}, expected a value of {ty}", at()),
    };
    Ok(value)
}

/// A number as it was written.
fn digits(written: &Written) -> String {
    match written {
        Written::Text(text) => text.clone(),
        Written::Integer(number) => number.to_string(),
        Written::Bool(_) | Written::Float(_) | Written::List(_) | Written::Table(_) => String::new(),
    }
}

fn decimals(path: &str, written: Option<&Written>, ty: &Type) -> Result<u8> {
    let Some(written) = written else { return Ok(0) };
    ensure!(matches!(ty, Type::Uint(_)), "{path}.decimals: {ty} has none, expected them for uint8 to uint256 alone");
    let decimals = match written {
        Written::Integer(number) => u8::try_from(*number).ok().filter(|decimals| *decimals <= MAX_DECIMALS),
        Written::Bool(_) | Written::Float(_) | Written::Text(_) | Written::List(_) | Written::Table(_) => None,
    };
    decimals.with_context(|| format!("{path}.decimals: {written}, expected 0 to {MAX_DECIMALS}"))
}

fn payment(path: &str, table: &BTreeMap<String, Written>, ty: &Type, beside: &[Parameter]) -> Result<Option<Token>> {
    let (is_payment, token) = (table.get("is_payment"), table.get("token"));
    let is_payment = match is_payment {
        None => false,
        Some(Written::Bool(is_payment)) => *is_payment,
        Some(other) => bail!("{path}.is_payment: {other}, expected true or false"),
    };
    if !is_payment {
        ensure!(token.is_none(), "{path}.token: needs is_payment = true, expected both or neither");
        return Ok(None);
    }
    ensure!(
        matches!(ty, Type::Uint(_)),
        "{path}.is_payment: {ty} is no amount, expected it for uint8 to uint256 alone"
    );
    let Some(token) = token else { return Ok(Some(Token::Contract)) };
    let is_it = |parameter: &Parameter, name: &str| parameter.name == name && parameter.ty == Type::Address;
    let at = match token {
        Written::Text(name) => beside.iter().position(|parameter| is_it(parameter, name)),
        Written::Bool(_) | Written::Integer(_) | Written::Float(_) | Written::List(_) | Written::Table(_) => None,
    };
    let at = at.with_context(|| format!("{path}.token: {token}, expected the name of an address beside the amount"))?;
    Ok(Some(Token::Beside(at)))
}

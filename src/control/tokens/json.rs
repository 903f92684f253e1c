//! JSON that can be read in one way only: an object whose names are all different, at every level.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Levels of arrays and objects; tokens and key sets have three or four.
const MAX_DEPTH: usize = 8;

/// A value, with as much of it as tokens and key sets need.
#[derive(Debug, Clone, PartialEq)]
pub enum Json<'a> {
    Null,
    Bool(bool),
    /// Finite: JSON has no other numbers. Whole ones are exact up to 2⁵³, far beyond any date.
    Number(f64),
    Text(Cow<'a, str>),
    List(Vec<Json<'a>>),
    Object(Object<'a>),
}

impl Json<'_> {
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Members by name, sorted: finding one and finding a name twice cost little even when a peer chose the names.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<'a>(Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Object<'a> {
    /// Reads a text that holds one object and nothing else. The caller has bounded its length; the memory used is at
    /// most some thirty times that.
    pub fn parse(text: &'a [u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "is not UTF-8")?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let value = Level(0).deserialize(&mut reader).and_then(|value| {
            reader.end()?;
            Ok(value)
        });
        match value {
            Ok(Json::Object(object)) => Ok(object),
            Ok(_) => Err("is not a JSON object"),
            Err(error) if error.to_string().starts_with(TWICE) => Err(TWICE),
            Err(_) => Err("is not JSON of few levels"),
        }
    }

    pub fn get(&self, name: &str) -> Option<&Json<'a>> {
        let place = self.0.binary_search_by(|(known, _)| (**known).cmp(name));
        place.ok().map(|at| &self.0[at].1)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The member as a string; `None` when it is not there or something else.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::text)
    }
}

/// What [`Object::parse`] says of a name that stands twice in one object.
pub const TWICE: &str = "holds a member twice";

/// Reads a value at this depth.
#[derive(Clone, Copy)]
struct Level(usize);

impl Level {
    fn below<E: Error>(self) -> Result<Self, E> {
        if self.0 >= MAX_DEPTH {
            return Err(E::custom("too deep"));
        }
        Ok(Self(self.0 + 1))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json<'de>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json<'de>, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(number as f64))
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<Json<'de>, E> {
        if !number.is_finite() {
            return Err(E::custom("a number is out of range"));
        }
        Ok(Json::Number(number))
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E>(self, text: &str) -> Result<Json<'de>, E> {
        Ok(Json::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(below)? {
            list.push(item);
        }
        Ok(Json::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json<'de>, A::Error> {
        let below = self.below()?;
        let mut found = Vec::new();
        while let Some(name) = members.next_key_seed(Name)? {
            found.push((name, members.next_value_seed(below)?));
        }
        found.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        if found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(A::Error::custom(TWICE));
        }
        Ok(Json::Object(Object(found)))
    }
}

/// A member's name: borrowed where it has no escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }
    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_twice_is_refused_at_every_level_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"\u0061":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"a":1,"a":2}]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(Object::parse(text.as_bytes()), Err(TWICE), "{text}");
        }
        assert!(Object::parse(br#"{"a":1,"A":1,"a ":1}"#).is_ok());
    }

    #[test]
    fn one_object_and_nothing_else() {
        for text in [
            &b""[..],
            b"1",
            b"[]",
            b"null",
            b"\"{}\"",
            b"{}{}",
            b"{} x",
            b"{",
            b"{\"a\"}",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{a:1}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\xc0\xaf\"}",
            b"{\"a\":\"\xed\xa0\x80\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":1e999}",
            b"{\"a\":NaN}",
            b"{\"a\":Infinity}",
            b"{\"a\":01}",
            b"{\"a\":+1}",
            b"{\"a\":.5}",
            b"{\"a\":0x10}",
            b"{}/**/",
            b"{}\0",
        ] {
            assert!(Object::parse(text).is_err(), "{}", text.escape_ascii());
        }
        assert!(Object::parse(b" \r\n\t{ \"a\" : [ ] } \n").is_ok());
    }

    #[test]
    fn depth_ends_on_both_sides_of_the_limit() {
        let nested = |levels: usize| {
            format!(
                "{{\"a\":{}1{}}}",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1)
            )
        };
        assert!(Object::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(Object::parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(Object::parse("[".repeat(200_000).as_bytes()).is_err());
        assert!(Object::parse("{\"a\":".repeat(50_000).as_bytes()).is_err());
    }

    #[test]
    fn members_are_found_whatever_their_order() {
        let text = br#"{"z":"1","a":"2","M":"3","n":4,"l":["x"],"o":{}}"#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.text("z"), Some("1"));
        assert_eq!(object.text("a"), Some("2"));
        assert_eq!(object.text("M"), Some("3"));
        assert_eq!(object.text("n"), None);
        assert_eq!(object.get("n"), Some(&Json::Number(4.0)));
        assert!(object.has("o") && !object.has("m"));
    }
}

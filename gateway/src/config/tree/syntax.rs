//! What the YAML parser complains of, in our words.

/// Part of a complaint of saphyr-parser 0.3, and what to tell instead.
const WORDS: [(&str, &str); 20] = [
    ("tab", "a tab cannot indent; use spaces"),
    ("invalid indentation in flow", "the \"[\" or \"{\" above is not closed, or this line is not indented deeper"),
    ("invalid indentation in quoted", "the quote is not closed, or the lines it spans are not indented deeper"),
    ("found unexpected end of stream", "the quote is not closed"),
    ("invalid trailing content after", "text after the closing quote"),
    ("unknown escape character", "unknown escape; in single quotes, \"\\\" is an ordinary character"),
    ("invalid Unicode character escape", "the escape is not a character"),
    ("hexadecimal number", "the escape needs hexadecimal digits"),
    ("misplaced bracket", "nothing is open that this bracket could close"),
    ("flow mapping, did not find", "expected \",\" or \"}\""),
    ("flow sequence, expected", "expected \",\" or \"]\""),
    ("mapping values are not allowed", "a second \":\" here; a string that contains \": \" must be in quotes"),
    ("block mapping, did not find", "expected another key, indented as the ones above"),
    ("block collection, did not find", "expected another \"- \", indented as the ones above"),
    ("block sequence entries are not", "a list must start on a line of its own"),
    ("did not find expected node", "expected a value; is a bracket not closed?"),
    ("simple key expect", "expected \":\" after the key"),
    ("unknown anchor", "no such anchor before here; a string that starts with \"*\" must be in quotes"),
    ("comments must be separated", "a comment needs a space before its \"#\""),
    ("unexpected character", "a string that starts with \"%\", \"@\" or \"`\" must be in quotes"),
];

/// `index` is where in the text the parser stopped, in characters.
pub(super) fn words(complaint: &str, text: &str, index: usize) -> String {
    if text.chars().skip(index.saturating_sub(1)).take(2).eq("${".chars()) {
        return "a string with \"${\" must be in quotes inside of [ ] and { }".to_owned();
    }
    let words = WORDS.iter().find(|(part, _)| complaint.contains(part));
    words.map_or_else(|| format!("invalid YAML: {complaint}"), |(_, words)| (*words).to_owned())
}

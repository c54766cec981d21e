//! Names of keys, and what to press for a character: pure. Codes are those of Linux (`KEY_A` is 30), which name a place on the
//! keyboard; what stands on it is the guest's layout.

use super::Layout;
use crate::Fault;

const SHIFT: u32 = 42;
const ALT_GR: u32 = 100;
const SPACE: u32 = 57;
/// The key with Enter on it.
pub const ENTER: u32 = 28;

/// Keys by place: each row is what a US keyboard shows there without and with shift, from the code on.
const US: [(u32, &str, &str); 4] = [
    (2, "1234567890-=", "!@#$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (43, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];
const UK: [(u32, &str, &str); 5] = [
    (2, "1234567890-=", "!\"£$%^&*()_+"),
    (16, "qwertyuiop[]", "QWERTYUIOP{}"),
    (30, "asdfghjkl;'`", "ASDFGHJKL:@¬"),
    (43, "#zxcvbnm,./", "~ZXCVBNM<>?"),
    (86, "\\", "|"),
];
const DE: [(u32, &str, &str); 5] = [
    (2, "1234567890ß", "!\"§$%&/()=?"),
    (16, "qwertzuiopü+", "QWERTZUIOPÜ*"),
    (30, "asdfghjklöä", "ASDFGHJKLÖÄ"),
    (43, "#yxcvbnm,.-", "'YXCVBNM;:_"),
    (86, "<", ">"),
];
const FR: [(u32, &str, &str); 6] = [
    (2, "&é\"'(-è_çà)=", "1234567890°+"),
    (16, "azertyuiop", "AZERTYUIOP"),
    (27, "$", "£"),
    (30, "qsdfghjklmù²", "QSDFGHJKLM%"),
    (43, "*wxcvbn,;:!", "µWXCVBN?./§"),
    (86, "<", ">"),
];
/// What AltGr gives.
const DE_ALT_GR: [(char, u32); 9] = [('{', 8), ('[', 9), (']', 10), ('}', 11), ('\\', 12), ('@', 16), ('€', 18), ('~', 27), ('|', 86)];
const FR_ALT_GR: [(char, u32); 11] =
    [('~', 3), ('#', 4), ('{', 5), ('[', 6), ('|', 7), ('`', 8), ('\\', 9), ('^', 10), ('@', 11), (']', 12), ('}', 13)];
/// What takes a dead key and then a space.
const DE_DEAD: [(char, u32, bool); 3] = [('^', 41, false), ('´', 13, false), ('`', 13, true)];
const FR_ALT_GR_EURO: (char, u32) = ('€', 18);

/// Keys with a name of their own. libvirt's `KEY_` names without the prefix, and what people call them.
const NAMED: &[(&str, u32)] = &[
    ("esc", 1),
    ("escape", 1),
    ("backspace", 14),
    ("tab", 15),
    ("enter", 28),
    ("return", 28),
    ("ctrl", 29),
    ("control", 29),
    ("leftctrl", 29),
    ("shift", 42),
    ("leftshift", 42),
    ("rightshift", 54),
    ("kpasterisk", 55),
    ("alt", 56),
    ("leftalt", 56),
    ("space", 57),
    ("capslock", 58),
    ("f1", 59),
    ("f2", 60),
    ("f3", 61),
    ("f4", 62),
    ("f5", 63),
    ("f6", 64),
    ("f7", 65),
    ("f8", 66),
    ("f9", 67),
    ("f10", 68),
    ("numlock", 69),
    ("scrolllock", 70),
    ("kp7", 71),
    ("kp8", 72),
    ("kp9", 73),
    ("kpminus", 74),
    ("kp4", 75),
    ("kp5", 76),
    ("kp6", 77),
    ("kpplus", 78),
    ("kp1", 79),
    ("kp2", 80),
    ("kp3", 81),
    ("kp0", 82),
    ("kpdot", 83),
    ("102nd", 86),
    ("f11", 87),
    ("f12", 88),
    ("kpenter", 96),
    ("rightctrl", 97),
    ("kpslash", 98),
    ("sysrq", 99),
    ("print", 99),
    ("altgr", 100),
    ("rightalt", 100),
    ("home", 102),
    ("up", 103),
    ("pageup", 104),
    ("left", 105),
    ("right", 106),
    ("end", 107),
    ("down", 108),
    ("pagedown", 109),
    ("insert", 110),
    ("ins", 110),
    ("delete", 111),
    ("del", 111),
    ("mute", 113),
    ("volumedown", 114),
    ("volumeup", 115),
    ("power", 116),
    ("pause", 119),
    ("win", 125),
    ("meta", 125),
    ("super", 125),
    ("leftmeta", 125),
    ("rightmeta", 126),
    ("menu", 127),
    ("compose", 127),
    ("sleep", 142),
    ("wakeup", 143),
    ("minus", 12),
    ("equal", 13),
    ("leftbrace", 26),
    ("rightbrace", 27),
    ("semicolon", 39),
    ("apostrophe", 40),
    ("grave", 41),
    ("comma", 51),
    ("dot", 52),
];

fn placed(rows: &[(u32, &str, &str)], wanted: char) -> Option<(u32, bool)> {
    rows.iter().find_map(|(from, plain, shifted)| {
        let at = |row: &str| row.chars().position(|c| c == wanted).and_then(|n| u32::try_from(n).ok());
        at(plain).map(|n| (from + n, false)).or_else(|| at(shifted).map(|n| (from + n, true)))
    })
}

/// What is pressed for a character, stroke after stroke; `None` when this keyboard does not have it.
pub fn strokes(layout: Layout, wanted: char) -> Option<Vec<Vec<u32>>> {
    match wanted {
        '\n' => return Some(vec![vec![ENTER]]),
        '\t' => return Some(vec![vec![15]]),
        ' ' => return Some(vec![vec![SPACE]]),
        _ => {}
    }
    let rows: &[(u32, &str, &str)] = match layout {
        Layout::Us => &US,
        Layout::Uk => &UK,
        Layout::De => &DE,
        Layout::Fr => &FR,
    };
    let with = |modifier: u32, code: u32| Some(vec![vec![modifier, code]]);
    if let Some((code, shifted)) = placed(rows, wanted) {
        return if shifted { with(SHIFT, code) } else { Some(vec![vec![code]]) };
    }
    let third: &[(char, u32)] = match layout {
        Layout::De => &DE_ALT_GR,
        Layout::Fr => &FR_ALT_GR,
        Layout::Uk if wanted == '€' => return with(ALT_GR, 5),
        Layout::Us | Layout::Uk => &[],
    };
    if let Some((_, code)) = third.iter().chain((layout == Layout::Fr).then_some(&FR_ALT_GR_EURO)).find(|(c, _)| *c == wanted) {
        return with(ALT_GR, *code);
    }
    if layout == Layout::De {
        let (_, code, shifted) = *DE_DEAD.iter().find(|(c, ..)| *c == wanted)?;
        let dead = if shifted { vec![SHIFT, code] } else { vec![code] };
        return Some(vec![dead, vec![SPACE]]);
    }
    None
}

/// What is pressed for a text, or which character this keyboard does not have.
pub fn typed(layout: Layout, text: &str) -> Result<Vec<Vec<u32>>, Fault> {
    let mut all = Vec::new();
    for wanted in text.replace("\r\n", "\n").chars() {
        all.extend(strokes(layout, wanted).ok_or_else(|| {
            Fault::invalid(format!("{wanted:?} is not on that keyboard; choose the layout of the guest, or leave it out"))
        })?);
    }
    Ok(all)
}

fn code(name: &str) -> Option<u32> {
    let name = name.to_ascii_lowercase();
    let name = name.strip_prefix("key_").unwrap_or(&name);
    let mut letters = name.chars();
    if let (Some(one), None) = (letters.next(), letters.next())
        && let Some((code, false)) = placed(&US, one)
    {
        return Some(code);
    }
    NAMED.iter().find(|(known, _)| *known == name).map(|(_, code)| *code)
}

/// The keys of `ctrl+alt+delete`, or of several such strokes parted by spaces.
pub fn chords(text: &str) -> Result<Vec<Vec<u32>>, Fault> {
    let mut all = Vec::new();
    for stroke in text.split_whitespace() {
        let mut keys = Vec::new();
        for name in stroke.split('+') {
            let shown: String = name.chars().take(40).collect();
            let unknown = || Fault::invalid(format!("{shown:?} is no key; write for example ctrl+alt+delete, f2, a or KEY_SYSRQ"));
            keys.push(code(name).ok_or_else(unknown)?);
        }
        if keys.len() > 8 {
            return Err(Fault::invalid("at most 8 keys are pressed together"));
        }
        all.push(keys);
    }
    match all.len() {
        0 => Err(Fault::invalid("name at least one key, for example ctrl+alt+delete")),
        1..=32 => Ok(all),
        _ => Err(Fault::invalid("at most 32 strokes are sent at a time; use domain.paste for a text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_by_what_people_call_them() {
        assert_eq!(chords("ctrl+alt+delete").unwrap(), [[29, 56, 111]]);
        assert_eq!(chords("Ctrl+Alt+F2 KEY_A").unwrap(), [vec![29, 56, 60], vec![30]]);
        assert_eq!(chords("alt+sysrq+b").unwrap(), [[56, 99, 48]]);
        for wrong in ["", " ", "+", "ctrl+", "anykey", "ctrl alt+nothing", &"a ".repeat(33), "a+b+c+d+e+f+g+h+i"] {
            assert!(chords(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_character_is_where_the_layout_has_it() {
        let table = [
            (Layout::Us, 'a', vec![vec![30]]),
            (Layout::Us, 'Z', vec![vec![42, 44]]),
            (Layout::Us, '@', vec![vec![42, 3]]),
            (Layout::Us, '|', vec![vec![42, 43]]),
            (Layout::Us, '/', vec![vec![53]]),
            (Layout::Us, '`', vec![vec![41]]),
            (Layout::Uk, '"', vec![vec![42, 3]]),
            (Layout::Uk, '\\', vec![vec![86]]),
            (Layout::De, 'z', vec![vec![21]]),
            (Layout::De, 'y', vec![vec![44]]),
            (Layout::De, '@', vec![vec![100, 16]]),
            (Layout::De, '-', vec![vec![53]]),
            (Layout::De, '^', vec![vec![41], vec![57]]),
            (Layout::Fr, 'a', vec![vec![16]]),
            (Layout::Fr, '1', vec![vec![42, 2]]),
            (Layout::Fr, '.', vec![vec![42, 51]]),
            (Layout::Fr, '@', vec![vec![100, 11]]),
            (Layout::Us, '\n', vec![vec![28]]),
        ];
        for (layout, wanted, expected) in table {
            assert_eq!(strokes(layout, wanted), Some(expected), "{layout:?} {wanted:?}");
        }
    }

    #[test]
    fn every_layout_has_all_of_ascii_but_what_it_says() {
        for layout in [Layout::Us, Layout::Uk, Layout::De, Layout::Fr] {
            let missing: String = (' '..='~').filter(|c| strokes(layout, *c).is_none()).collect();
            assert_eq!(missing, "", "{layout:?}");
            // No two characters are one stroke.
            let mut all: Vec<_> = (' '..='~').filter_map(|c| strokes(layout, c)).collect();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), 95, "{layout:?}");
        }
        assert!(typed(Layout::Us, "grün").unwrap_err().message.contains("'ü'"));
    }
}

//! BOLT messages: what decodes is encoded to the same message, in no more bytes than came.

use leyden_channels::wire::{Message, NodeAddress, alias_text};

pub fn wire_messages(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else { return };
    let encoded = message.encode().expect("a message that came is not too long to go");
    assert_eq!(Message::decode(&encoded).as_ref(), Ok(&message));
    // An empty list of channels may come without its encoding byte, and is written with it.
    let may_grow = matches!(message, Message::QueryShortChannelIds(_) | Message::ReplyChannelRange(_));
    assert!(encoded.len() <= bytes.len() + usize::from(may_grow), "nothing is added to what came");
    if encoded.len() == bytes.len() && !may_grow {
        assert_eq!(encoded, bytes, "only unknown odd records may be left out, nothing may be written otherwise");
    }
    texts_can_be_shown(&message);
}

/// What a stranger says reaches a person's terminal without control characters.
fn texts_can_be_shown(message: &Message) {
    let text = match message {
        Message::Error(error) => error.text(),
        Message::Warning(warning) => warning.text(),
        Message::NodeAnnouncement(announcement) => {
            let _ = NodeAddress::parse_all(&announcement.addresses);
            alias_text(&announcement.alias)
        }
        _ => return,
    };
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

//! RADIO and DISH: to and from groups (RFC 48).

use super::*;

impl State {
    /// RADIO: to every peer that joined the group in the first frame
    pub(super) fn radiate(&mut self, message: &mut Message) -> Result<(), SendFailure> {
        if !is_group_and_body(message) {
            return Err(SendFailure::Invalid(NOT_GROUP_AND_BODY_SENT));
        }
        // The group's length goes in front of both
        self.check_datagram(1 + message.octets())?;
        let Pattern::Radio(groups) = &self.pattern else {
            return self.refuse_or_drop();
        };
        let mut chosen = mem::take(&mut self.scratch);
        chosen.clear();
        let listens = |number: &u32| self.pipes.get(*number as usize).is_some_and(|pipe| !pipe.leaving);
        chosen.extend(groups.members(message.first()).iter().copied().filter(listens));
        // Whoever receives datagrams chooses there
        chosen.extend(self.datagrams.iter().map(|(index, _)| *index).filter(listens));
        self.send_copies(chosen, message)
    }

    /// RADIO: a peer joins or leaves a group
    pub(super) fn handle_membership(&mut self, key: PipeKey, message: &Message) {
        let Some(control) = Control::of(message) else {
            // RFC 48: a RADIO receives no messages
            self.unrouted += 1;
            return;
        };
        let Pattern::Radio(groups) = &mut self.pattern else {
            return;
        };
        let refused = if !is_group(&control.topic) {
            Some(BAD_GROUP)
        } else if control.subscribe && !groups.has_room(key.index, &control.topic, &self.options) {
            Some(TOO_MANY_SUBSCRIPTIONS)
        } else {
            None
        };
        if let Some(reason) = refused {
            self.doom(key, reason);
            return;
        }
        match control.subscribe {
            true => groups.join(&control.topic, key.index),
            false => groups.leave(&control.topic, key.index),
        }
        self.signals.changed = true;
    }

    /// DISH: takes in what belongs to its groups; a peer that sends anything but a group and a body is no RADIO
    pub(super) fn handle_radiated(&mut self, key: PipeKey, messages: &mut VecDeque<Message>) {
        let Pattern::Dish(dish) = &self.pattern else {
            return;
        };
        let mut sound = true;
        messages.retain(|message| {
            sound &= is_group_and_body(message);
            sound && dish.wants(message.first())
        });
        self.append_all(key.index as usize, messages);
        if !sound {
            self.doom(key, NOT_GROUP_AND_BODY);
        }
    }

    /// DISH: joins or leaves a group, and tells every RADIO
    ///
    /// # Errors
    /// What is wrong with the group, or that the socket has none.
    pub(crate) fn change_group(&mut self, control: &Control) -> Result<(), SocketError> {
        if self.phase != Phase::Open {
            return Err(SocketError::Closed);
        }
        let Pattern::Dish(dish) = &mut self.pattern else {
            return Err(SocketError::NotSupported("only a DISH joins groups"));
        };
        dish.apply(control).map_err(SocketError::Invalid)?;
        self.tell_all(control);
        Ok(())
    }
}

const NOT_GROUP_AND_BODY_SENT: &str =
    "a message of a RADIO has two frames: a group of up to 255 octets, none of them zero, and a body";

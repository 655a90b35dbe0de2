//! Lists through the items of a slab: put in, taken out from anywhere and moved without allocating.

use slab::Slab;

/// Where an item is in the one list of a kind that it may be in
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    previous: u32,
    next: u32,
}

impl Link {
    /// The item behind
    pub(super) fn next(self) -> Option<u32> {
        (self.next != NONE).then_some(self.next)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { previous: NONE, next: NONE }
    }
}

/// An item that can be in a list
pub(super) trait Links {
    /// Its place there
    fn link(&mut self) -> &mut Link;
}

/// The ends of a list, and how long it is
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for List {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl List {
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn front(&self) -> Option<u32> {
        (self.head != NONE).then_some(self.head)
    }

    pub(super) fn back(&self) -> Option<u32> {
        (self.tail != NONE).then_some(self.tail)
    }

    pub(super) fn push_back<T: Links>(&mut self, items: &mut Slab<T>, index: u32) {
        self.push_back_by(items, index, T::link);
    }

    pub(super) fn pop_front<T: Links>(&mut self, items: &mut Slab<T>) -> Option<u32> {
        let index = self.front()?;
        self.remove(items, index);
        Some(index)
    }

    pub(super) fn remove<T: Links>(&mut self, items: &mut Slab<T>, index: u32) {
        self.remove_by(items, index, T::link);
    }

    /// As `push_back`, by another link than the item's first
    #[inline]
    pub(super) fn push_back_by<T>(&mut self, items: &mut Slab<T>, index: u32, link: impl Fn(&mut T) -> &mut Link) {
        if let Some(item) = items.get_mut(index as usize) {
            *link(item) = Link { previous: self.tail, next: NONE };
        }
        match items.get_mut(self.tail as usize) {
            Some(tail) if self.tail != NONE => link(tail).next = index,
            _ => self.head = index,
        }
        self.tail = index;
        self.len += 1;
    }

    /// In front of another item of the list, or at its end
    pub(super) fn insert_before<T: Links>(&mut self, items: &mut Slab<T>, index: u32, before: Option<u32>) {
        let Some(next) = before else { return self.push_back(items, index) };
        let Some(item) = items.get_mut(next as usize) else { return };
        let previous = std::mem::replace(&mut item.link().previous, index);
        if let Some(item) = items.get_mut(index as usize) {
            *item.link() = Link { previous, next };
        }
        match items.get_mut(previous as usize) {
            Some(item) if previous != NONE => item.link().next = index,
            _ => self.head = index,
        }
        self.len += 1;
    }

    /// Takes out an item that is in this list
    #[inline]
    pub(super) fn remove_by<T>(&mut self, items: &mut Slab<T>, index: u32, link: impl Fn(&mut T) -> &mut Link) {
        let Some(item) = items.get_mut(index as usize) else { return };
        let Link { previous, next } = std::mem::take(link(item));
        match items.get_mut(previous as usize) {
            Some(item) if previous != NONE => link(item).next = next,
            _ => self.head = next,
        }
        match items.get_mut(next as usize) {
            Some(item) if next != NONE => link(item).previous = previous,
            _ => self.tail = previous,
        }
        self.len = self.len.saturating_sub(1);
    }
}

const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    struct Item(Link);

    impl Links for Item {
        fn link(&mut self) -> &mut Link {
            &mut self.0
        }
    }

    proptest! {
        #[test]
        fn does_what_a_deque_does(steps in prop::collection::vec((0u8..4, any::<usize>()), 1..100)) {
            let (mut items, mut list, mut model) = (Slab::new(), List::default(), VecDeque::new());
            for (step, place) in steps {
                match step {
                    0 => {
                        let index = items.insert(Item(Link::default())) as u32;
                        list.push_back(&mut items, index);
                        model.push_back(index);
                    }
                    1 => {
                        let index = items.insert(Item(Link::default())) as u32;
                        let at = place % (model.len() + 1);
                        list.insert_before(&mut items, index, model.get(at).copied());
                        model.insert(at, index);
                    }
                    2 => prop_assert_eq!(list.pop_front(&mut items), model.pop_front()),
                    _ if model.is_empty() => {}
                    _ => {
                        let index = model.remove(place % model.len()).unwrap();
                        list.remove(&mut items, index);
                    }
                }
                prop_assert_eq!((list.len(), list.is_empty()), (model.len(), model.is_empty()));
                prop_assert_eq!((list.front(), list.back()), (model.front().copied(), model.back().copied()));
                let mut next = list.front();
                for index in &model {
                    prop_assert_eq!(next, Some(*index));
                    next = items[*index as usize].0.next();
                }
                prop_assert_eq!(next, None);
            }
        }
    }
}

//! The subscription trie against a plain set: the same changes, the same matches, nothing left behind.
#![no_main]

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tidings_socket::{Change, SubscriptionTrie};

#[derive(Arbitrary, Debug)]
enum Step {
    Insert(Vec<u8>, u8),
    Remove(Vec<u8>, u8),
    /// A prefix of one that is held, so that nodes split and merge
    InsertPart(usize, u8, u8),
    Leave(u8),
    Match(Vec<u8>),
    /// A topic that one held prefix matches
    MatchLonger(usize, Vec<u8>),
}

fuzz_target!(|steps: Vec<Step>| {
    let mut trie = SubscriptionTrie::new();
    let mut model = BTreeSet::<(Vec<u8>, u32)>::new();
    for step in steps.into_iter().take(300) {
        match step {
            Step::Insert(prefix, who) => insert(&mut trie, &mut model, prefix, who),
            Step::InsertPart(which, length, who) => {
                let Some(mut prefix) = pick(&model, which) else { continue };
                prefix.truncate(usize::from(length) % (prefix.len() + 1));
                insert(&mut trie, &mut model, prefix, who);
            }
            Step::Remove(prefix, who) => {
                let who = u32::from(who) % 8;
                let removed = model.remove(&(prefix.clone(), who));
                let expected = expected(removed, &model, &prefix, who);
                assert_eq!(trie.remove(&prefix, who), expected);
            }
            Step::Leave(who) => {
                let who = u32::from(who) % 8;
                let mut gone = BTreeSet::new();
                trie.remove_subscriber(who, |prefix| assert!(gone.insert(prefix)));
                let held: Vec<_> = model.iter().filter(|(_, other)| *other == who).cloned().collect();
                for entry in &held {
                    model.remove(entry);
                }
                let last = |prefix: &Vec<u8>| !model.iter().any(|(other, _)| other == prefix);
                let expected: BTreeSet<_> = held.into_iter().map(|(prefix, _)| prefix).filter(last).collect();
                assert_eq!(gone, expected);
            }
            Step::Match(topic) => check(&trie, &model, &topic),
            Step::MatchLonger(which, tail) => {
                let Some(mut topic) = pick(&model, which) else { continue };
                topic.extend(tail);
                check(&trie, &model, &topic);
            }
        }
        assert_eq!(trie.len(), model.len());
    }
    let topics: BTreeSet<_> = trie.topics().collect();
    let expected: BTreeSet<_> = model.iter().map(|(prefix, _)| prefix.clone()).collect();
    assert_eq!(topics, expected);
});

fn insert(trie: &mut SubscriptionTrie, model: &mut BTreeSet<(Vec<u8>, u32)>, prefix: Vec<u8>, who: u8) {
    let who = u32::from(who) % 8;
    let added = model.insert((prefix.clone(), who));
    let expected = expected(added, model, &prefix, who);
    assert_eq!(trie.insert(&prefix, who), expected);
    assert!(trie.contains(&prefix, who));
}

fn expected(changed: bool, model: &BTreeSet<(Vec<u8>, u32)>, prefix: &[u8], who: u32) -> Change {
    match (changed, model.iter().any(|(other, subscriber)| other == prefix && *subscriber != who)) {
        (false, _) => Change::None,
        (true, true) => Change::Subscriber,
        (true, false) => Change::Topic,
    }
}

fn check(trie: &SubscriptionTrie, model: &BTreeSet<(Vec<u8>, u32)>, topic: &[u8]) {
    let mut found = BTreeSet::new();
    trie.matches(topic, |who| {
        found.insert(who);
    });
    let expected: BTreeSet<u32> =
        model.iter().filter(|(prefix, _)| topic.starts_with(prefix)).map(|(_, who)| *who).collect();
    assert_eq!(trie.matches_any(topic), !expected.is_empty());
    assert_eq!(found, expected);
}

fn pick(model: &BTreeSet<(Vec<u8>, u32)>, which: usize) -> Option<Vec<u8>> {
    model.iter().nth(which % model.len().max(1)).map(|(prefix, _)| prefix.clone())
}

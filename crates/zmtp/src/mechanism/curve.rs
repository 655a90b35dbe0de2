//! CURVE: the handshake of two peers with long-term keys, each proving to hold its own (RFC 26).
//!
//! Letters are the RFC's: C and c are the client's permanent keys, public and secret, S and s the server's; C', c', S'
//! and s' are made for one connection and forgotten with it. Prefixes of nonces and the sizes of commands are those
//! of libzmq, which the RFC's text leaves open in places.

use std::{fmt, sync::Arc};

use bytes::{BufMut, BytesMut};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use super::{
    Admission, Mechanism, Outcome, Sealing, Step, expect, metadata, own_properties,
    sealing::{Side, short_nonce},
};
use crate::{
    auth::Credentials,
    cipher::{MAC_LEN, SharedKey, open_in_place, public_of, seal_in_place},
    close_reason::{CloseReason, SealedCommand},
    command::frame,
    config::Config,
    entropy::{Entropy, EntropyError},
    keys::{CurvePublicKey, CurveSecretKey, KEY_LEN},
    properties::Properties,
};

/// The keys of a CURVE client, and the key by which it knows its server
#[derive(Clone)]
pub struct CurveClient {
    keys: Arc<Keys>,
    server: CurvePublicKey,
}

/// The keys of a CURVE server
#[derive(Clone)]
pub struct CurveServer {
    keys: Arc<Keys>,
}

/// Our permanent pair, shared by all connections
struct Keys {
    secret: CurveSecretKey,
    public: CurvePublicKey,
    entropy: Arc<dyn Entropy>,
}

impl Keys {
    fn new(secret: CurveSecretKey, entropy: Arc<dyn Entropy>) -> Arc<Self> {
        Arc::new(Self { public: secret.public(), secret, entropy })
    }

    fn random<const N: usize>(&self) -> Result<Zeroizing<[u8; N]>, EntropyError> {
        let mut octets = Zeroizing::new([0; N]);
        self.entropy.fill(&mut octets[..])?;
        Ok(octets)
    }
}

impl CurveClient {
    /// A client with this key of its own, for the server with that public key
    pub fn new(own: CurveSecretKey, server: CurvePublicKey, entropy: Arc<dyn Entropy>) -> Self {
        Self { keys: Keys::new(own, entropy), server }
    }

    /// What servers know us by
    pub fn public_key(&self) -> CurvePublicKey {
        self.keys.public
    }

    /// What we know the server by
    pub fn server_key(&self) -> CurvePublicKey {
        self.server
    }

    /// Says HELLO (RFC 26, "The HELLO Command")
    pub(super) fn start(&self, transmit: &mut BytesMut) -> Result<Mechanism, CloseReason> {
        let transient = self.keys.random()?;
        let public = public_of(&transient);
        let key = SharedKey::agree(self.server.as_octets(), &transient).ok_or(CloseReason::WeakKey)?;
        let mut signature = [0; 64];
        let mac = seal_in_place(&key, &short_nonce(HELLO_NONCE, 1), &mut signature);
        frame(transmit, b"HELLO", HELLO_LEN - 6);
        transmit.put_slice(&VERSION);
        transmit.put_bytes(0, PADDING);
        transmit.put_slice(&public);
        transmit.put_u64(1);
        transmit.put_slice(&mac);
        transmit.put_slice(&signature);
        Ok(Mechanism::CurveAwaitsWelcome(Box::new(AwaitsWelcome { transient, public, key })))
    }
}

impl CurveServer {
    /// A server with this key
    pub fn new(own: CurveSecretKey, entropy: Arc<dyn Entropy>) -> Self {
        Self { keys: Keys::new(own, entropy) }
    }

    /// What clients know us by
    pub fn public_key(&self) -> CurvePublicKey {
        self.keys.public
    }
}

impl fmt::Debug for CurveClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurveClient {{ own: {}, server: {} }}", self.keys.public, self.server)
    }
}

impl fmt::Debug for CurveServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CurveServer {{ own: {} }}", self.keys.public)
    }
}

/// Server: nothing was said, HELLO is due
#[derive(Debug)]
pub(crate) struct AwaitsHello;

impl AwaitsHello {
    /// Answers HELLO with WELCOME, and forgets both (RFC 26, "The WELCOME Command")
    ///
    /// What the client is to bring back it gets sealed, in the cookie.
    pub(super) fn handle(
        self,
        server: &CurveServer,
        body: &mut [u8],
        transmit: &mut BytesMut,
    ) -> Result<Step, CloseReason> {
        let octets = body.len();
        let data = expect("HELLO", body)?;
        let wrong_size = CloseReason::WrongSize { command: "HELLO", octets };
        // Whatever costs more than a look comes after all that a look can tell.
        let Some((version, rest)) = data.split_first_chunk_mut::<2>() else {
            return Err(wrong_size);
        };
        if octets != HELLO_LEN {
            return Err(wrong_size);
        }
        if *version != VERSION {
            return Err(CloseReason::CurveVersion { major: version[0], minor: version[1] });
        }
        let Some(([padding, client, nonce], sealed)) = split_hello(rest) else {
            return Err(wrong_size);
        };
        if padding.iter().any(|&octet| octet != 0) {
            return Err(CloseReason::HelloPadding);
        }
        let client: [u8; KEY_LEN] = fixed(client).ok_or(wrong_size)?;
        let not_opened = CloseReason::NotOpened(SealedCommand::Hello);
        let keys = &*server.keys;
        let key = SharedKey::agree(&client, keys.secret.as_octets()).ok_or(not_opened.clone())?;
        open(&key, &short_nonce(HELLO_NONCE, counter(nonce)), sealed).ok_or(not_opened)?;

        let transient: Zeroizing<[u8; KEY_LEN]> = keys.random()?;
        // One key for each connection: were it shared, a cookie would open on another connection too, and an INITIATE
        // that somebody recorded could be played there.
        let cookie_key = SharedKey::own(keys.random()?);
        let (cookie_nonce, welcome_nonce) = (keys.random::<16>()?, keys.random::<16>()?);
        let mut cookie = Zeroizing::new([0; 2 * KEY_LEN]);
        let (client_part, transient_part) = cookie.split_at_mut(KEY_LEN);
        client_part.copy_from_slice(&client);
        transient_part.copy_from_slice(&transient[..]);
        let mac = seal_in_place(&cookie_key, &long_nonce(COOKIE_NONCE, &cookie_nonce), &mut cookie[..]);

        let mut welcome = BytesMut::with_capacity(WELCOME_PLAIN);
        welcome.put_slice(&public_of(&transient));
        welcome.put_slice(&cookie_nonce[..]);
        welcome.put_slice(&mac);
        welcome.put_slice(&cookie[..]);
        let mac = seal_in_place(&key, &long_nonce(WELCOME_NONCE, &welcome_nonce), &mut welcome);
        frame(transmit, b"WELCOME", WELCOME_LEN - 8);
        transmit.put_slice(&welcome_nonce[..]);
        transmit.put_slice(&mac);
        transmit.put_slice(&welcome);
        Ok(Step::Await(Mechanism::CurveAwaitsInitiate(AwaitsInitiate { cookie_key })))
    }
}

/// Server: WELCOME was said; all that is kept of it is the key of its cookie
#[derive(Debug)]
pub(crate) struct AwaitsInitiate {
    cookie_key: SharedKey,
}

impl AwaitsInitiate {
    /// Checks that the client holds the keys it claims (RFC 26, "The INITIATE Command")
    pub(super) fn handle(self, server: &CurveServer, config: &Config, body: &mut [u8]) -> Result<Step, CloseReason> {
        let wrong_size = CloseReason::WrongSize { command: "INITIATE", octets: body.len() };
        let data = expect("INITIATE", body)?;
        let Some(([cookie_nonce, cookie, nonce], sealed)) = split_initiate(data) else {
            return Err(wrong_size);
        };
        if sealed.len() < MAC_LEN + INITIATE_PLAIN {
            return Err(wrong_size);
        }
        let cookie_nonce: [u8; 16] = fixed(cookie_nonce).ok_or(wrong_size.clone())?;
        let cookie = open(&self.cookie_key, &long_nonce(COOKIE_NONCE, &cookie_nonce), cookie);
        let cookie = cookie.ok_or(CloseReason::CookieNotOurs)?;
        let (client, transient) = cookie.split_at_mut(KEY_LEN);
        let client: [u8; KEY_LEN] = fixed(client).ok_or(wrong_size.clone())?;
        let transient_key: Zeroizing<[u8; KEY_LEN]> = Zeroizing::new(fixed(transient).ok_or(wrong_size.clone())?);
        transient.zeroize();

        let not_opened = CloseReason::NotOpened(SealedCommand::Initiate);
        let key = SharedKey::agree(&client, &transient_key).ok_or(not_opened.clone())?;
        let nonce = counter(nonce);
        let plain = open(&key, &short_nonce(INITIATE_NONCE, nonce), sealed).ok_or(not_opened)?;
        let Some(([permanent, vouch_nonce, vouch], told)) = split_initiate_box(plain) else {
            return Err(wrong_size);
        };
        let permanent: [u8; KEY_LEN] = fixed(permanent).ok_or(wrong_size.clone())?;
        let vouch_nonce: [u8; 16] = fixed(vouch_nonce).ok_or(wrong_size.clone())?;

        let vouch_key = SharedKey::agree(&permanent, &transient_key).ok_or(CloseReason::VouchNotOpened)?;
        let vouch = open(&vouch_key, &long_nonce(VOUCH_NONCE, &vouch_nonce), vouch);
        let vouch = vouch.ok_or(CloseReason::VouchNotOpened)?;
        // libzmq looks at the first half alone. The second is what keeps a server from showing the vouch of its
        // client to another server.
        let expected = [client, *server.keys.public.as_octets()].concat();
        if !bool::from(vouch.ct_eq(&expected)) {
            return Err(CloseReason::VouchForAnother);
        }
        let properties = metadata(told)?;
        let state = AwaitsVerdict { key, nonce, properties };
        Ok(match config.authenticate {
            true => {
                let public_key = CurvePublicKey::from_octets(permanent);
                Step::Ask(Credentials::Curve { public_key }, Mechanism::CurveAwaitsVerdict(Box::new(state)))
            }
            false => state.admit(config, Admission::default()),
        })
    }
}

/// Server: the client is who it says, and the owner is to say whether that is somebody to talk to
#[derive(Debug)]
pub(crate) struct AwaitsVerdict {
    key: SharedKey,
    /// The last one heard
    nonce: u64,
    properties: Properties,
}

impl AwaitsVerdict {
    /// Says READY (RFC 26, "The READY Command")
    pub(super) fn admit(self, config: &Config, admission: Admission) -> Step {
        let own = own_properties(config);
        let mut told = BytesMut::with_capacity(own.encoded_len());
        own.encode(&mut told);
        let mac = seal_in_place(&self.key, &short_nonce(READY_NONCE, 1), &mut told);
        let mut last_word = BytesMut::new();
        frame(&mut last_word, b"READY", 8 + MAC_LEN + told.len());
        last_word.put_u64(1);
        last_word.put_slice(&mac);
        last_word.put_slice(&told);
        let sealing = Some(Box::new(Sealing::new(self.key, Side::Server, 2, self.nonce)));
        Step::Done(Box::new(Outcome { properties: self.properties, admission, last_word, sealing }))
    }
}

/// Client: HELLO was said
pub(crate) struct AwaitsWelcome {
    /// c'
    transient: Zeroizing<[u8; KEY_LEN]>,
    /// C'
    public: [u8; KEY_LEN],
    /// Of c' and S
    key: SharedKey,
}

impl fmt::Debug for AwaitsWelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwaitsWelcome")
    }
}

impl AwaitsWelcome {
    /// Shows who we are, to a server that has shown to hold its key (RFC 26, "The INITIATE Command")
    pub(super) fn handle(
        self,
        client: &CurveClient,
        config: &Config,
        body: &mut [u8],
        transmit: &mut BytesMut,
    ) -> Result<Step, CloseReason> {
        let octets = body.len();
        let data = expect("WELCOME", body)?;
        let wrong_size = CloseReason::WrongSize { command: "WELCOME", octets };
        let (true, Some((nonce, sealed))) = (octets == WELCOME_LEN, data.split_first_chunk_mut()) else {
            return Err(wrong_size);
        };
        let not_opened = CloseReason::NotOpened(SealedCommand::Welcome);
        let plain = open(&self.key, &long_nonce(WELCOME_NONCE, nonce), sealed).ok_or(not_opened.clone())?;
        let (server, cookie) = plain.split_first_chunk::<KEY_LEN>().ok_or(wrong_size)?;

        let keys = &*client.keys;
        let vouch_key = SharedKey::agree(server, keys.secret.as_octets()).ok_or(not_opened.clone())?;
        let vouch_nonce = keys.random::<16>()?;
        let mut vouch = [self.public, *client.server.as_octets()].concat();
        let vouch_mac = seal_in_place(&vouch_key, &long_nonce(VOUCH_NONCE, &vouch_nonce), &mut vouch);

        let own = own_properties(config);
        let mut told = BytesMut::with_capacity(INITIATE_PLAIN + own.encoded_len());
        told.put_slice(keys.public.as_octets());
        told.put_slice(&vouch_nonce[..]);
        told.put_slice(&vouch_mac);
        told.put_slice(&vouch);
        own.encode(&mut told);
        let key = SharedKey::agree(server, &self.transient).ok_or(not_opened)?;
        let mac = seal_in_place(&key, &short_nonce(INITIATE_NONCE, 2), &mut told);
        frame(transmit, b"INITIATE", COOKIE_LEN + 8 + MAC_LEN + told.len());
        transmit.put_slice(cookie);
        transmit.put_u64(2);
        transmit.put_slice(&mac);
        transmit.put_slice(&told);
        Ok(Step::Await(Mechanism::CurveAwaitsReady(Box::new(AwaitsReady { key }))))
    }
}

/// Client: INITIATE was said
#[derive(Debug)]
pub(crate) struct AwaitsReady {
    key: SharedKey,
}

impl AwaitsReady {
    pub(super) fn handle(self, body: &mut [u8]) -> Result<Step, CloseReason> {
        let octets = body.len();
        let data = expect("READY", body)?;
        let Some((nonce, sealed)) = data.split_first_chunk_mut::<8>().filter(|(_, sealed)| sealed.len() >= MAC_LEN)
        else {
            return Err(CloseReason::WrongSize { command: "READY", octets });
        };
        let nonce = u64::from_be_bytes(*nonce);
        let told = open(&self.key, &short_nonce(READY_NONCE, nonce), sealed);
        let properties = metadata(told.ok_or(CloseReason::NotOpened(SealedCommand::Ready))?)?;
        let sealing = Some(Box::new(Sealing::new(self.key, Side::Client, 3, nonce)));
        Ok(Step::Done(Box::new(Outcome { properties, sealing, ..Outcome::default() })))
    }
}

/// Opens a box that begins with its tag
fn open<'a>(key: &SharedKey, nonce: &[u8; 24], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let (mac, data) = sealed.split_first_chunk_mut()?;
    open_in_place(key, nonce, mac, data).then_some(data)
}

/// Padding, C', nonce; box
fn split_hello(octets: &mut [u8]) -> Option<([&mut [u8]; 3], &mut [u8])> {
    split(octets, [PADDING, KEY_LEN, 8])
}

/// The cookie's nonce and box, nonce; box
fn split_initiate(octets: &mut [u8]) -> Option<([&mut [u8]; 3], &mut [u8])> {
    split(octets, [16, COOKIE_LEN - 16, 8])
}

/// C, the vouch's nonce and box; metadata
fn split_initiate_box(octets: &mut [u8]) -> Option<([&mut [u8]; 3], &mut [u8])> {
    split(octets, [KEY_LEN, 16, VOUCH_LEN - 16])
}

fn split(octets: &mut [u8], [a, b, c]: [usize; 3]) -> Option<([&mut [u8]; 3], &mut [u8])> {
    let (a, rest) = octets.split_at_mut_checked(a)?;
    let (b, rest) = rest.split_at_mut_checked(b)?;
    let (c, rest) = rest.split_at_mut_checked(c)?;
    Some(([a, b, c], rest))
}

fn fixed<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    octets.try_into().ok()
}

fn counter(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |value, &octet| value << 8 | u64::from(octet))
}

fn long_nonce(prefix: &[u8; 8], random: &[u8; 16]) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..8].copy_from_slice(prefix);
    nonce[8..].copy_from_slice(random);
    nonce
}

/// Of CURVE, as HELLO has it
const VERSION: [u8; 2] = [1, 0];
/// Zeros that make HELLO longer than WELCOME, so that nobody can make us say more than he says
const PADDING: usize = 72;
const COOKIE_LEN: usize = 96;
const VOUCH_LEN: usize = 96;
/// Octets of the bodies of commands
pub(super) const HELLO_LEN: usize = 200;
const WELCOME_LEN: usize = 168;
/// Octets in the boxes
const WELCOME_PLAIN: usize = KEY_LEN + COOKIE_LEN;
const INITIATE_PLAIN: usize = KEY_LEN + VOUCH_LEN;

const HELLO_NONCE: &[u8; 16] = b"CurveZMQHELLO---";
const WELCOME_NONCE: &[u8; 8] = b"WELCOME-";
const COOKIE_NONCE: &[u8; 8] = b"COOKIE--";
const INITIATE_NONCE: &[u8; 16] = b"CurveZMQINITIATE";
const VOUCH_NONCE: &[u8; 8] = b"VOUCH---";
const READY_NONCE: &[u8; 16] = b"CurveZMQREADY---";

/** The XML namespaces of the XMPP door, by the specification that gives them. */

/** Of stanzas between client and server [RFC 6120 §4.8]; every stanza inside this door has it, whatever its stream. */
export const CLIENT = 'jabber:client';
/** Of stanzas on a component's stream [XEP-0114]. */
export const COMPONENT = 'jabber:component:accept';
export const STREAMS = 'http://etherx.jabber.org/streams';
export const STREAM_CONDITIONS = 'urn:ietf:params:xml:ns:xmpp-streams';
export const STANZA_CONDITIONS = 'urn:ietf:params:xml:ns:xmpp-stanzas';
/** [RFC 7395] */
export const FRAMING = 'urn:ietf:params:xml:ns:xmpp-framing';
export const TLS = 'urn:ietf:params:xml:ns:xmpp-tls';
export const SASL = 'urn:ietf:params:xml:ns:xmpp-sasl';
export const BIND = 'urn:ietf:params:xml:ns:xmpp-bind';
/** Of RFC 3921; a client that still asks for a session is told that it has one. */
export const SESSION = 'urn:ietf:params:xml:ns:xmpp-session';
export const ROSTER = 'jabber:iq:roster';
export const ROSTER_VERSIONING = 'urn:xmpp:features:rosterver';
/** [XEP-0004] */
export const DATA_FORM = 'jabber:x:data';
/** [XEP-0030] */
export const DISCO_INFO = 'http://jabber.org/protocol/disco#info';
export const DISCO_ITEMS = 'http://jabber.org/protocol/disco#items';
/** [XEP-0050] */
export const COMMANDS = 'http://jabber.org/protocol/commands';
/** [XEP-0060] */
export const PUBSUB = 'http://jabber.org/protocol/pubsub';
export const PUBSUB_OWNER = 'http://jabber.org/protocol/pubsub#owner';
export const PUBSUB_EVENT = 'http://jabber.org/protocol/pubsub#event';
export const PUBSUB_ERRORS = 'http://jabber.org/protocol/pubsub#errors';
/** [XEP-0092] */
export const VERSION = 'jabber:iq:version';
/** [XEP-0160] */
export const OFFLINE = 'msgoffline';
/** [XEP-0198] */
export const STREAM_MANAGEMENT = 'urn:xmpp:sm:3';
/** [XEP-0199] */
export const PING = 'urn:xmpp:ping';
/** [XEP-0202] */
export const TIME = 'urn:xmpp:time';
/** [XEP-0203] */
export const DELAY = 'urn:xmpp:delay';
/** [XEP-0280] */
export const CARBONS = 'urn:xmpp:carbons:2';
/** [XEP-0297] */
export const FORWARD = 'urn:xmpp:forward:0';
/** [XEP-0440] */
export const CHANNEL_BINDING = 'urn:xmpp:sasl-cb:0';
/** Ours: address, properties, headers and binary body of an AMQP message; docs/protocols/xmpp.md. */
export const AMQP = 'urn:warren:amqp:0';

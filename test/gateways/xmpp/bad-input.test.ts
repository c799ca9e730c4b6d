/** What no well-behaved client sends, on the real socket: the one who sends it is told and closed, and nobody else notices. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const STANZA_BYTES_MAX = 20_000;
const LOGIN_BYTES_MAX = 4000;
const scene = useXmpp({
  xmpp: {
    stanzaBytesMax: STANZA_BYTES_MAX,
    loginStanzaBytesMax: LOGIN_BYTES_MAX,
    handshakeTimeoutMs: 400,
    silenceMs: 60_000,
  },
});

let bystander: RawClient;
beforeEach(async () => {
  bystander = await scene.login('bystander', 'anna');
});
afterEach(async () => {
  await bystander.settled();
});

const attributes = Array.from({ length: 70 }, (_, index) => `a${index}='1'`).join(' ');

describe('in the middle of a stream', () => {
  it.each([
    ['a tag that closes another', '<message></presence>', 'not-well-formed'],
    ['an attribute twice', "<message to='a' to='b'/>", 'not-well-formed'],
    ['an unbound prefix', '<x:message/>', 'not-well-formed'],
    ['a control character', '<message>\u0001</message>', 'not-well-formed'],
    ['a reference to a control character', '<message>&#1;</message>', 'not-well-formed'],
    ['an unquoted attribute', '<message to=a/>', 'not-well-formed'],
    ['a comment', '<!-- hello -->', 'restricted-xml'],
    ['a processing instruction', '<?php echo 1 ?>', 'restricted-xml'],
    ['a DOCTYPE', "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>]>", 'restricted-xml'],
    ['an entity of its own', '<message><body>&lol;</body></message>', 'restricted-xml'],
    ['text between stanzas', 'hello<presence/>', 'bad-format'],
    ['an element of another namespace', "<message xmlns='jabber:server'/>", 'unsupported-stanza-type'],
    ['an element that is no stanza', '<hello/>', 'unsupported-stanza-type'],
    [
      'a stanza that is too large',
      `<message><body>${'x'.repeat(STANZA_BYTES_MAX)}</body></message>`,
      'policy-violation',
    ],
    ['a stanza that never ends', `<message><body>${'x'.repeat(STANZA_BYTES_MAX)}`, 'policy-violation'],
    ['a tag that never ends', `<message a='${'x'.repeat(STANZA_BYTES_MAX)}`, 'policy-violation'],
    ['elements in elements', '<a>'.repeat(100), 'policy-violation'],
    ['many attributes', `<message ${attributes}/>`, 'policy-violation'],
    ['somebody else as the sender', "<message from='anna@localhost' to='guest@localhost'/>", 'invalid-from'],
    ['an acknowledgement of what was never sent', "<a xmlns='urn:xmpp:sm:3' h='12'/>", 'handled-count-too-high'],
    ['an acknowledgement of nothing', "<a xmlns='urn:xmpp:sm:3'/>", 'policy-violation'],
  ])('%s', async (_what, text, condition) => {
    const guilty = await scene.login('guilty');
    if (text.includes('urn:xmpp:sm')) guilty.say("<enable xmlns='urn:xmpp:sm:3'/>");
    guilty.say(text);
    const said = await guilty.ended();
    expect(said).toMatch(new RegExp(`<stream:error><[^>]*>?.*${condition}.*</stream:error></stream:stream>$`, 's'));
  });

  it('octets that are no UTF-8', async () => {
    const guilty = await scene.login('guilty');
    guilty.socket.write(Buffer.from([0x3c, 0x61, 0x3e, 0xff, 0xfe]));
    expect(await guilty.ended()).toContain('<not-well-formed');
  });

  it('what comes before the fault is served, what comes after it is not', async () => {
    const guilty = await scene.login('guilty');
    guilty.say(
      "<message to='anna@localhost'><body>before</body></message><!-- --><message to='anna@localhost'><body>after</body></message>",
    );
    await guilty.ended();
    bystander.say('<presence/>');
    await bystander.until('<body>before</body>');
    expect(await bystander.settled()).not.toContain('after');
  });
});

describe('at the beginning', () => {
  it.each([
    ['no XML', 'GET / HTTP/1.1\r\n\r\n', 'not-well-formed'],
    ['a DOCTYPE', '<!DOCTYPE x><stream/>', 'restricted-xml'],
    ['another encoding', "<?xml version='1.0' encoding='ISO-8859-1'?><stream:stream/>", 'unsupported-encoding'],
    ['another root', "<hello xmlns='jabber:client' version='1.0'>", 'invalid-namespace'],
    [
      'a stream between servers',
      "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
      'invalid-namespace',
    ],
    [
      'a domain that is not here',
      "<stream:stream to='example.org' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>",
      'host-unknown',
    ],
    [
      'no version',
      "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
      'unsupported-version',
    ],
    [
      'a header that never ends',
      `<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' x='${'x'.repeat(5000)}`,
      'policy-violation',
    ],
  ])('%s', async (_what, text, condition) => {
    const guilty = await scene.raw();
    guilty.say(text);
    const said = await guilty.ended();
    expect(said).toMatch(/^<\?xml version="1.0"\?><stream:stream /);
    expect(said).toContain(`<${condition}`);
    expect(said).toMatch(/<\/stream:error><\/stream:stream>$/);
  });

  it('somebody who says nothing is let go', async () => {
    expect(await (await scene.raw()).ended()).toContain('connection-timeout');
  });

  it('a stanza before login', async () => {
    const guilty = await scene.raw();
    guilty.header();
    guilty.say("<message to='anna@localhost'><body>x</body></message>");
    expect(await guilty.ended()).toContain('<not-authorized');
  });

  it('a stanza before a resource is bound', async () => {
    const guilty = await scene.raw();
    await guilty.login('guest', 'guest');
    guilty.say("<message to='anna@localhost'><body>x</body></message>");
    expect(await guilty.ended()).toContain('<not-authorized');
  });

  it('less is taken before login than after it', async () => {
    const guilty = await scene.raw();
    guilty.header();
    guilty.say(
      `<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>${'A'.repeat(LOGIN_BYTES_MAX)}</auth>`,
    );
    expect(await guilty.ended()).toContain('<policy-violation');
  });
});

describe('a login', () => {
  const sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
  const encoded = (text: string): string => Buffer.from(text).toString('base64');

  it.each([
    ['a wrong password', `<auth ${sasl} mechanism='PLAIN'>${encoded('\0guest\0wrong')}</auth>`, 'not-authorized'],
    ['nobody', `<auth ${sasl} mechanism='PLAIN'>${encoded('\0nobody\0guest')}</auth>`, 'not-authorized'],
    ['as somebody else', `<auth ${sasl} mechanism='PLAIN'>${encoded('anna\0guest\0guest')}</auth>`, 'invalid-authzid'],
    ['half of PLAIN', `<auth ${sasl} mechanism='PLAIN'>${encoded('guest')}</auth>`, 'malformed-request'],
    ['no base64', `<auth ${sasl} mechanism='PLAIN'>***</auth>`, 'incorrect-encoding'],
    ['an unknown mechanism', `<auth ${sasl} mechanism='X-MAGIC'/>`, 'invalid-mechanism'],
    ['an answer to no question', `<response ${sasl}/>`, 'malformed-request'],
    ['second thoughts', `<abort ${sasl}/>`, 'aborted'],
    [
      'SCRAM with channel binding',
      `<auth ${sasl} mechanism='SCRAM-SHA-256'>${encoded('p=tls-exporter,,n=guest,r=x')}</auth>`,
      'not-authorized',
    ],
    [
      'SCRAM without a nonce',
      `<auth ${sasl} mechanism='SCRAM-SHA-1'>${encoded('n,,n=guest')}</auth>`,
      'not-authorized',
    ],
  ])('%s is answered with its condition, and another attempt may follow', async (_what, text, condition) => {
    const raw = await scene.raw();
    raw.header();
    await raw.until('</stream:features>');
    raw.say(text);
    await raw.until(`<failure xmlns="urn:ietf:params:xml:ns:xmpp-sasl"><${condition}/></failure>`);
    raw.say(`<auth ${sasl} mechanism='PLAIN'>${encoded('\0guest\0guest')}</auth>`);
    await raw.until('<success');
  });

  it('begins anew: what was said in advance counts for nothing', async () => {
    const raw = await scene.raw();
    raw.header();
    await raw.until('</stream:features>');
    const bind = "<iq type='set' id='early'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
    raw.say(`<auth ${sasl} mechanism='PLAIN'>${encoded('\0guest\0guest')}</auth>${bind}`);
    await raw.until('<success');
    raw.header();
    expect(await raw.until('</stream:features>')).not.toContain('early');
    raw.say(bind.replace('early', 'late'));
    expect(await raw.until('</bind></iq>')).not.toContain('early');
  });

  it('fails three times on one connection, not more', async () => {
    const raw = await scene.raw();
    raw.header();
    await raw.until('</stream:features>');
    for (let attempt = 0; attempt < 3; attempt += 1) {
      raw.say(`<auth ${sasl} mechanism='PLAIN'>${encoded('\0guest\0wrong')}</auth>`);
    }
    expect(await raw.ended()).toContain('<policy-violation');
  });

  it('with SCRAM: a proof that does not fit, and a nonce that is not ours', async () => {
    for (const nonce of [undefined, 'other']) {
      const raw = await scene.raw();
      raw.header();
      await raw.until('</stream:features>');
      raw.say(`<auth ${sasl} mechanism='SCRAM-SHA-256'>${encoded('n,,n=guest,r=abc')}</auth>`);
      const challenge = await raw.until(/<challenge[^>]*>.*<\/challenge>/);
      const text = Buffer.from(/>([^<]+)</.exec(challenge)?.[1] ?? '', 'base64').toString();
      const [, ours = ''] = /^r=([^,]+)/.exec(text) ?? [];
      expect(ours.startsWith('abc')).toBe(true);
      const last = `c=biws,r=${nonce ?? ours},p=${encoded('x'.repeat(32))}`;
      raw.say(`<response ${sasl}>${encoded(last)}</response>`);
      await raw.until('<not-authorized/></failure>');
    }
  });
});

describe('a stanza that cannot be served', () => {
  it.each([
    ['to no address', "<message to='@@' id='e'><body>x</body></message>", 'jid-malformed'],
    [
      'to an exchange that is not there',
      "<message to='nothing@broker.localhost' id='e'><body>x</body></message>",
      'item-not-found',
    ],
    [
      'to a server that cannot be reached',
      "<message to='romeo@montague.net' id='e'><body>x</body></message>",
      'remote-server-not-found',
    ],
    [
      'to a user who is not there',
      "<message to='nobody@localhost' id='e'><body>x</body></message>",
      'service-unavailable',
    ],
    ['an iq without id', "<iq type='get'><ping xmlns='urn:xmpp:ping'/></iq>", 'bad-request'],
    ['an iq of no type', "<iq id='e'/>", 'bad-request'],
    ['an iq that asks two things', "<iq type='get' id='e'><a xmlns='x'/><b xmlns='x'/></iq>", 'bad-request'],
    [
      'an iq that nobody understands',
      "<iq type='get' id='e' to='broker.localhost'><a xmlns='x'/></iq>",
      'service-unavailable',
    ],
    [
      'a header that is none',
      "<message to='amq.fanout@broker.localhost' id='e'><body>x</body><amqp xmlns='urn:warren:amqp:0'><header name='n' type='int'>x</header></amqp></message>",
      'bad-request',
    ],
    [
      'octets that are no base64',
      "<message to='amq.fanout@broker.localhost' id='e'><amqp xmlns='urn:warren:amqp:0'><body encoding='base64'>!!!!</body></amqp></message>",
      'bad-request',
    ],
    [
      'a header whose name is too long',
      `<message to='amq.fanout@broker.localhost' id='e'><body>x</body><amqp xmlns='urn:warren:amqp:0'><header name='${'n'.repeat(256)}'>x</header></amqp></message>`,
      'not-acceptable',
    ],
    [
      'an expiration that is none',
      "<message to='amq.fanout@broker.localhost' id='e'><body>x</body><amqp xmlns='urn:warren:amqp:0' expiration='soon'/></message>",
      'not-acceptable',
    ],
    [
      'a key that is too long',
      `<message to='amq.topic@broker.localhost/${'k'.repeat(300)}' id='e'><body>x</body></message>`,
      'not-acceptable',
    ],
  ])('%s', async (_what, text, condition) => {
    const raw = await scene.login('asker');
    raw.say(text);
    await raw.until(new RegExp(`type="error".*<${condition} xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"/>`));
    await raw.settled();
  });

  it('an error is not answered with an error', async () => {
    const raw = await scene.login('asker');
    raw.say("<message type='error' to='nothing@broker.localhost'><body>x</body></message>");
    raw.say(
      "<iq type='error' id='e1' to='nothing@broker.localhost'/><iq type='result' id='e2' to='nothing@broker.localhost'/>",
    );
    expect(await raw.settled()).not.toContain('error');
  });

  it('without the right: forbidden', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'carl', password: 'secret' });
    await administration.setPermission({ vhost: '/', user: 'carl', configure: '', write: '', read: '' });
    const raw = await scene.login('asker', 'carl');
    raw.say("<message to='amq.fanout@broker.localhost' id='e'><body>x</body></message>");
    await raw.until(/type="error".*<forbidden /);
    raw.say("<presence/><presence type='subscribe' to='amq.fanout@broker.localhost'/>");
    await raw.until(/<presence[^>]*type="error".*<forbidden /);
    await eventually(async () => expect((await scene.broker.snapshot('/')).queues).toEqual([]));
  });
});

/** What no well-behaved WebSocket client sends [RFC 7395]: the one who sends it is told and closed. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp({ xmpp: { stanzaBytesMax: 20_000, loginStanzaBytesMax: 4000 } });
const OPEN = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
const SASL = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";

let bystander: RawClient;
beforeEach(async () => {
  bystander = await scene.login('bystander', 'anna');
});

class Frames {
  readonly socket: WebSocket;
  readonly messages: string[] = [];
  closed = false;

  constructor(url: string) {
    this.socket = new WebSocket(url, ['xmpp']);
    this.socket.on('message', (data) => this.messages.push(String(data)));
    this.socket.on('close', () => {
      this.closed = true;
    });
    this.socket.on('error', () => {});
  }

  async until(wanted: string): Promise<string> {
    return eventually(() => {
      const index = this.messages.findIndex((message) => message.includes(wanted));
      if (index < 0) throw new Error(`still waiting for ${wanted}; heard: ${this.messages.join('\n')}`);
      return this.messages.splice(0, index + 1).at(-1) ?? '';
    });
  }

  async ended(): Promise<string> {
    await eventually(() => expect(this.closed).toBe(true));
    return this.messages.join('\n');
  }
}

const open: Frames[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) one.socket.terminate();
  await bystander.settled();
});

async function connected(): Promise<Frames> {
  const frames = new Frames(scene.webSocketUrl);
  open.push(frames);
  await eventually(() => expect(frames.socket.readyState).toBe(WebSocket.OPEN));
  return frames;
}

async function bound(): Promise<Frames> {
  const frames = await connected();
  frames.socket.send(OPEN);
  await frames.until('features');
  frames.socket.send(`<auth ${SASL} mechanism='PLAIN'>${Buffer.from('\0guest\0guest').toString('base64')}</auth>`);
  await frames.until('<success');
  frames.socket.send(OPEN);
  await frames.until('features');
  frames.socket.send(
    "<iq xmlns='jabber:client' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>",
  );
  await frames.until('</bind>');
  return frames;
}

describe('in the middle of a stream', () => {
  it.each([
    ['a tag that closes another', "<message xmlns='jabber:client'></presence>", 'not-well-formed'],
    ['the end of what is not open', '</messages>', 'not-well-formed'],
    ['a comment', '<!-- -->', 'restricted-xml'],
    ['a processing instruction', '<?php ?>', 'restricted-xml'],
    ['a DOCTYPE', '<!DOCTYPE x>', 'restricted-xml'],
    ['an entity of its own', "<message xmlns='jabber:client'><body>&lol;</body></message>", 'restricted-xml'],
    ['text', "hello<presence xmlns='jabber:client'/>", 'bad-format'],
    ['a stanza of no namespace', '<message/>', 'unsupported-stanza-type'],
    ['elements in elements', "<a xmlns='jabber:client'>".repeat(100), 'policy-violation'],
    ['what is too large', `<message xmlns='jabber:client'>${'x'.repeat(20_000)}`, 'policy-violation'],
    [
      'a stream header of TCP',
      "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'/>",
      'unsupported-stanza-type',
    ],
  ])('%s', async (_what, text, condition) => {
    const frames = await bound();
    frames.socket.send(text);
    const said = await frames.ended();
    expect(said).toMatch(new RegExp(`<stream:error [^>]*><${condition} .*</stream:error>\n<close xmlns="[^"]*"/>$`));
  });

  it('octets that are no text', async () => {
    const frames = await bound();
    frames.socket.send(Buffer.from([0x3c, 0xff, 0xfe]));
    expect(await frames.ended()).toContain('not-well-formed');
  });
});

describe('at the beginning', () => {
  it.each([
    ['a stanza', "<message xmlns='jabber:client'/>", ''],
    ['what is no XML', 'GET / HTTP/1.1<', 'bad-format'],
    ['another domain', OPEN.replace('localhost', 'example.org'), 'host-unknown'],
    ['no version', OPEN.replace("version='1.0'", ''), 'unsupported-version'],
    ['what is too large', `<open a='${'x'.repeat(5000)}'/>`, 'policy-violation'],
  ])('%s', async (_what, text, condition) => {
    const frames = await connected();
    frames.socket.send(text);
    if (condition === '') {
      // Before a stream is open nothing is taken, and nothing told.
      frames.socket.send(OPEN);
      await frames.until('features');
      return;
    }
    expect(await frames.ended()).toContain(`<${condition} `);
  });
});

/** Exchanges as nodes [XEP-0060]: what is asked, what is refused and how, what subscribers are told. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import type { Element } from '../../../gateways/xmpp/element.ts';
import { parseElement } from '../../../gateways/xmpp/stream-parser.ts';
import { audienceOf, NODES_OF_MESSAGE_MAX, SUBSCRIPTIONS_MAX } from '../../../gateways/xmpp/subscriptions.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const STANZA_BYTES_MAX = 20_000;
const scene = useXmpp({ xmpp: { stanzaBytesMax: STANZA_BYTES_MAX, delayMsMin: 20 } });
const PUBSUB = 'http://jabber.org/protocol/pubsub';
const ENTRY = "<entry xmlns='http://www.w3.org/2005/Atom'><title>T &amp; t</title></entry>";

let raw: RawClient;
let ids = 0;
beforeEach(async () => {
  await scene.channel.declareExchange({ exchange: 'logs', type: 'topic', durable: true });
  raw = await scene.login('desk');
  raw.say('<presence/>');
  await raw.until('<presence');
});
afterEach(async () => {
  const { exchanges, queues } = await scene.broker.snapshot('/');
  for (const { name } of exchanges.filter((one) => !/^(amq\..*|)$/.test(one.name)))
    await scene.channel.deleteExchange(name);
  for (const { name } of queues) await scene.channel.deleteQueue(name);
});

/** Asks the service and answers what it said; messages that come before the answer are left to be read. */
async function ask(payload: string, type: 'get' | 'set' = 'set', who = raw, namespace = ''): Promise<string> {
  ids += 1;
  who.say(
    `<iq type='${type}' id='q${ids}' to='broker.localhost'><pubsub xmlns='${PUBSUB}${namespace}'>${payload}</pubsub></iq>`,
  );
  const pattern = new RegExp(`<iq type="(?:result|error)"[^>]*id="q${ids}"[^>]*(?:/>|>.*?</iq>)`, 's');
  return eventually(() => {
    const [answer] = pattern.exec(who.heard) ?? [];
    if (answer === undefined) throw new Error(`still waiting; heard: ${who.heard}`);
    return answer;
  });
}

async function subscribe(node: string, who = raw, jid = 'guest@localhost'): Promise<string> {
  return ask(`<subscribe node='${node}' jid='${jid}'/>`, 'set', who);
}

/** The next message for which `wanted` holds, of those that have come and not been taken yet. */
async function nextMessage(who = raw): Promise<Element> {
  const said = await who.until(/<message.*?<\/message>/s);
  return parseElement(said.slice(said.lastIndexOf('<message')).replace('<message', "<message xmlns='jabber:client'"), {
    stanzaBytesMax: 1_000_000,
  });
}

function itemsOf(message: Element): Element | undefined {
  return message.child('event', `${PUBSUB}#event`)?.child('items');
}

/** Waits until all that was published has been said, and answers what of it has not been taken. */
async function rest(): Promise<string> {
  await eventually(async () => {
    const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'guest@localhost');
    expect([view?.messagesReady, view?.messagesUnacked]).toEqual([0, 0]);
  });
  return raw.settled();
}

describe('a node', () => {
  it('is created, published to, found, and deleted, which subscribers are told', async () => {
    expect(await ask("<create node='blog'/>")).toContain('<create node="blog"/>');
    expect((await scene.broker.snapshot('/')).exchanges).toContainEqual(
      expect.objectContaining({ name: 'blog', type: 'fanout', durable: true }),
    );
    expect(await ask("<create node='blog'/>")).toContain('<conflict ');
    expect(await subscribe('blog')).toContain(
      '<subscription node="blog" jid="guest@localhost" subscription="subscribed"/>',
    );
    expect(await ask(`<publish node='blog'><item id='i1'>${ENTRY}</item></publish>`)).toContain(
      '<publish node="blog"><item id="i1"/></publish>',
    );
    const event = await nextMessage();
    expect(event.attributes).toMatchObject({ from: 'broker.localhost', to: 'guest@localhost/desk' });
    expect(event.attributes.type).toBeUndefined();
    expect(itemsOf(event)?.attributes.node).toBe('blog');
    const [item] = itemsOf(event)?.elements ?? [];
    expect(item?.attributes.id).toBe('i1');
    expect(String(item?.elements[0])).toBe(ENTRY.replaceAll("'", '"'));
    expect(event.child('body')?.text).toBe(ENTRY.replaceAll("'", '"'));
    expect(event.child('amqp', 'urn:warren:amqp:0')?.attributes).toMatchObject({
      exchange: 'blog',
      'content-type': 'application/xml',
      'message-id': 'i1',
      'user-id': 'guest',
    });
    expect(await ask("<delete node='blog'/>", 'set', raw, '#owner')).toContain('type="result"');
    const gone = await nextMessage();
    expect(gone.child('event', `${PUBSUB}#event`)?.child('delete')?.attributes.node).toBe('blog');
    expect(await ask(`<publish node='blog'><item>${ENTRY}</item></publish>`)).toContain('<item-not-found ');
  });

  it('shows itself by disco, as a node and as a contact', async () => {
    await subscribe('logs/app.#');
    raw.say("<iq type='get' id='i' to='broker.localhost'><query xmlns='http://jabber.org/protocol/disco#items'/></iq>");
    const items = await raw.until('</query></iq>');
    expect(items).toContain('<item jid="broker.localhost" node="logs" name="logs"/>');
    expect(items).toContain('<item jid="logs@broker.localhost" name="logs"/>');
    const info = (node: string): void =>
      raw.say(
        `<iq type='get' id='j' to='broker.localhost'><query xmlns='http://jabber.org/protocol/disco#info' node='${node}'/></iq>`,
      );
    info('logs/app.#');
    const said = await raw.until('</query></iq>');
    expect(said).toContain('<identity category="pubsub" type="leaf" name="logs"/>');
    expect(said).toContain('<feature var="amqp-exchange-topic"/>');
    expect(said).toMatch(/FORM_TYPE.*pubsub#meta-data.*pubsub#num_subscribers"><value>1</);
    info('nothing');
    await raw.until('<item-not-found ');
    raw.say("<iq type='get' id='k' to='broker.localhost'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>");
    const service = await raw.until('</query></iq>');
    expect(service).toContain('<identity category="pubsub" type="service"/>');
    for (const feature of ['publish', 'subscribe', 'retrieve-affiliations'])
      expect(service).toContain(`<feature var="${PUBSUB}#${feature}"/>`);
  });

  it('is of the longest name that is an exchange', async () => {
    await scene.channel.declareExchange({ exchange: 'logs/app', type: 'direct' });
    await subscribe('logs/app/k');
    await subscribe('logs/else/k');
    const { bindings } = await scene.broker.snapshot('/');
    expect(bindings.map(({ source, bindingKey }) => [source, bindingKey])).toEqual([
      ['logs', 'else/k'],
      ['logs/app', 'k'],
    ]);
  });

  it('is the business of who may configure, write and read the exchange', async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'carl', password: 'secret' });
    await administration.setPermission({ vhost: '/', user: 'carl', configure: '^carl', write: '^carl', read: '^carl' });
    const carl = await scene.login('desk', 'carl');
    expect(await ask("<create node='news'/>", 'set', carl)).toContain('<forbidden ');
    expect(await ask("<delete node='logs'/>", 'set', carl, '#owner')).toContain('<forbidden ');
    expect(await subscribe('logs', carl, 'carl@localhost')).toContain('<forbidden ');
    expect(await ask(`<publish node='logs'><item>${ENTRY}</item></publish>`, 'set', carl)).toContain('<forbidden ');
    expect(await ask("<create node='carls'/>", 'set', carl)).toContain('type="result"');
    expect(await ask('<affiliations/>', 'get', carl)).toContain(
      '<affiliations><affiliation node="carls" affiliation="owner"/></affiliations>',
    );
    expect(await ask("<affiliations node='logs'/>", 'get', carl)).toContain('<affiliations node="logs"/>');
    await administration.deleteUser('carl');
  });
});

describe('a subscription', () => {
  it('is listed, apart from contacts, and ends, of whichever resource', async () => {
    raw.say("<presence type='subscribe' to='logs@broker.localhost'/>");
    await raw.until('type="subscribed"');
    expect(await ask('<subscriptions/>', 'get')).toContain('<subscriptions/>');
    await subscribe('logs', raw, 'guest@localhost/desk');
    await subscribe('logs');
    await subscribe('logs/app.#');
    expect(await ask('<subscriptions/>', 'get')).toMatch(
      /<subscriptions><subscription node="logs" jid="guest@localhost" subscription="subscribed"\/><subscription node="logs\/app\.#"[^>]*\/><\/subscriptions>/,
    );
    expect(await ask("<subscriptions node='logs'/>", 'get')).not.toContain('app.#');
    expect(await ask("<unsubscribe node='logs' jid='guest@localhost'/>")).toContain('type="result"');
    expect(await ask("<unsubscribe node='logs' jid='guest@localhost'/>")).toMatch(
      /<unexpected-request .*<not-subscribed /,
    );
    const left = (await scene.broker.snapshot('/')).bindings.map(({ bindingKey, arguments: args }) => [
      bindingKey,
      args,
    ]);
    expect(left).toEqual([
      ['', { 'x-jid': 'logs@broker.localhost' }],
      ['app.#', { 'x-jid': 'broker.localhost', 'x-pubsub-node': 'logs/app.#' }],
    ]);
    // Nobody is told what he has asked for himself, and no contact has gone.
    expect(await raw.settled()).not.toMatch(/<event|unsubscribe"/);
  });

  it('that another door takes away is said to be over', async () => {
    await subscribe('logs/k');
    const [binding] = (await scene.broker.snapshot('/')).bindings;
    if (binding !== undefined) await scene.channel.unbind(binding);
    const said = await nextMessage();
    expect(said.child('event', `${PUBSUB}#event`)?.child('subscription')?.attributes).toEqual({
      node: 'logs/k',
      jid: 'guest@localhost',
      subscription: 'none',
    });
    expect(await raw.settled()).not.toContain('<presence');
  });

  it('brings what waited while he was away, as events with the time', async () => {
    await subscribe('logs/k');
    raw.say("<presence type='unavailable'/>");
    await raw.settled();
    scene.publish('logs', 'k', 'one', { messageId: 'm1' });
    const from = Date.now();
    await eventually(() => expect(Date.now()).toBeGreaterThan(from + 30));
    raw.say('<presence/>');
    const event = await nextMessage();
    expect(itemsOf(event)?.child('item')?.attributes.id).toBe('m1');
    expect(event.child('delay', 'urn:xmpp:delay')?.attributes.from).toBe('broker.localhost');
  });
});

it('subscriptions are no more than one inbox may have', { timeout: 20_000 }, async () => {
  await subscribe('logs');
  for (let index = 1; index < SUBSCRIPTIONS_MAX; index += 1) {
    const ends = { source: 'logs', destination: 'guest@localhost', destinationKind: 'queue' } as const;
    await scene.channel.bind({ ...ends, bindingKey: `k${index}` });
  }
  const refused = await subscribe('logs/one more');
  expect(refused).toContain('<policy-violation ');
  expect(refused).toContain('<too-many-subscriptions ');
  expect(await subscribe('logs')).toContain('subscription="subscribed"');
  raw.say("<presence type='subscribe' to='logs@broker.localhost/more'/>");
  await raw.until(/<presence type="error"[^>]*>.*<policy-violation /);
  await scene.channel.deleteQueue('guest@localhost');
  await raw.settled();
});

describe('an item', () => {
  it('that is no XML is <amqp> with all of the message, which can be published as it is', async () => {
    await subscribe('logs/k');
    const octets = Uint8Array.of(0, 1, 255);
    const properties = { contentType: 'text/plain', headers: { n: 1 }, correlationId: 'c', priority: 3 };
    const both = ['<text> & more', octets];
    for (const body of both)
      scene.channel.publish(createMessage({ exchange: 'logs', routingKey: 'k', body, properties }));
    const payloads: string[] = [];
    for (const _ of both) {
      const event = await nextMessage();
      const payload = itemsOf(event)?.child('item')?.elements[0];
      expect(payload?.attributes).toMatchObject({ exchange: 'logs', 'routing-key': 'k', 'correlation-id': 'c' });
      expect(event.child('amqp', 'urn:warren:amqp:0')).toBeUndefined();
      payloads.push(String(payload));
    }
    const { queue } = await scene.channel.declareQueue({ queue: '', exclusive: true });
    await scene.channel.bind({ source: 'logs', destination: queue, destinationKind: 'queue', bindingKey: 'back' });
    for (const payload of payloads)
      expect(await ask(`<publish node='logs/back'><item id='again'>${payload}</item></publish>`)).toContain('"result"');
    for (const body of both) {
      const got = await scene.channel.get(queue, { noAck: true });
      expect(got?.message.body).toEqual(typeof body === 'string' ? new TextEncoder().encode(body) : body);
      expect(got?.message.properties).toEqual({ ...properties, userId: 'guest' });
    }
  });

  it.each([
    ['what only says that it is XML', 'application/xml', '<a><b></a>'],
    ['two elements', 'text/xml; charset=utf-8', '<a/><b/>'],
    ['an element and more', 'application/atom+xml', '<a/> and more'],
    ['the end of what is around it', 'application/xml', '</x><a/><x>'],
    ['entities of its own', 'application/xml', "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"],
    ['XML that says to be text', 'text/plain', '<a/>'],
  ])('takes nothing for XML that is none: %s', async (_what, contentType, body) => {
    await subscribe('logs/k');
    scene.publish('logs', 'k', body, { contentType });
    const payload = itemsOf(await nextMessage())?.child('item')?.elements[0];
    expect(payload?.is('amqp', 'urn:warren:amqp:0')).toBe(true);
    expect(payload?.child('body')?.text).toBe(body);
  });

  it('takes XML with a declaration for what it is', async () => {
    await subscribe('logs/k');
    scene.publish('logs', 'k', '<?xml version="1.0" encoding="UTF-8"?>\n<a xmlns="u"><b/></a>\n', {
      contentType: 'text/xml',
    });
    expect(String(itemsOf(await nextMessage())?.child('item')?.elements[0])).toBe('<a xmlns="u"><b/></a>');
  });

  it('comes once for each node that it belongs to, and to the contact as a chat', async () => {
    await subscribe('logs/a.#');
    await subscribe('logs/a.b');
    await subscribe('logs/c');
    raw.say("<presence type='subscribe' to='logs@broker.localhost/*.b'/>");
    await raw.until('type="subscribed"');
    scene.publish('logs', 'a.b', 'one');
    const said = [await nextMessage(), await nextMessage(), await nextMessage()];
    expect(said.map((one) => itemsOf(one)?.attributes.node ?? one.attributes.from)).toEqual([
      'logs/a.#',
      'logs/a.b',
      'logs@broker.localhost/a.b',
    ]);
    scene.publish('logs', 'a.c', 'two');
    expect(itemsOf(await nextMessage())?.attributes.node).toBe('logs/a.#');
    scene.publish('logs', 'd.b', 'three');
    expect((await nextMessage()).attributes.from).toBe('logs@broker.localhost/d.b');
    expect(await rest()).not.toContain('<message');
  });

  it('does not come for more nodes than is bearable', () => {
    const bindings = Array.from({ length: NODES_OF_MESSAGE_MAX + 1 }, (_, index) => ({
      source: 'logs',
      destination: 'guest@localhost',
      destinationKind: 'queue' as const,
      bindingKey: '#',
      arguments: { 'x-jid': 'broker.localhost', 'x-pubsub-node': `logs/${index}` },
    }));
    expect(audienceOf(bindings, () => 'topic', 'logs', 'k').nodes).toHaveLength(NODES_OF_MESSAGE_MAX);
  });

  it('of a fanout exchange comes for each of its nodes, whatever the key; of one in between, too', async () => {
    await scene.channel.declareExchange({ exchange: 'fan', type: 'fanout' });
    await scene.channel.bind({ source: 'logs', destination: 'fan', destinationKind: 'exchange', bindingKey: '#' });
    await subscribe('fan');
    await subscribe('fan/k');
    for (const exchange of ['fan', 'logs']) {
      scene.publish(exchange, 'k', 'one');
      const nodes = [await nextMessage(), await nextMessage()].map((one) => itemsOf(one)?.attributes.node);
      expect(nodes).toEqual(['fan', 'fan/k']);
    }
  });

  it('has no body beside it where both would be too large, and is dropped where it is too large itself', async () => {
    await subscribe('logs/k');
    const half = 'x'.repeat(STANZA_BYTES_MAX * 0.7);
    scene.publish('logs', 'k', half);
    const event = await nextMessage();
    expect(event.child('body')).toBeUndefined();
    expect(itemsOf(event)?.child('item')?.elements[0]?.child('body')?.text).toBe(half);
    scene.publish('logs', 'k', 'x'.repeat(STANZA_BYTES_MAX), { messageId: 'big' });
    expect((await nextMessage()).child('body')?.text).toContain('message "big" of 20000 octets is too large');
    await rest();
  });
});

describe('what is refused', () => {
  it.each([
    ['a node without name', 'set', '', '<create/>', '<not-acceptable ', '<nodeid-required '],
    ['a node that is not there', 'set', '', "<subscribe node='x' jid='guest@localhost'/>", '<item-not-found ', ''],
    ['to subscribe nobody', 'set', '', "<subscribe node='logs'/>", '<bad-request ', '<jid-required '],
    [
      'to subscribe others',
      'set',
      '',
      "<subscribe node='logs' jid='anna@localhost'/>",
      '<bad-request ',
      '<invalid-jid ',
    ],
    [
      'to unsubscribe others',
      'set',
      '',
      "<unsubscribe node='logs' jid='anna@localhost'/>",
      '<bad-request ',
      '<invalid-jid ',
    ],
    ['to publish nowhere', 'set', '', '<publish/>', '<bad-request ', '<nodeid-required '],
    ['to publish nothing', 'set', '', "<publish node='logs'/>", '<bad-request ', '<item-required '],
    ['no payload', 'set', '', "<publish node='logs'><item/></publish>", '<bad-request ', '<payload-required '],
    [
      'two payloads',
      'set',
      '',
      `<publish node='logs'><item>${ENTRY}${ENTRY}</item></publish>`,
      '<bad-request ',
      '<invalid-payload ',
    ],
    [
      'two items',
      'set',
      '',
      `<publish node='logs'><item>${ENTRY}</item><item>${ENTRY}</item></publish>`,
      '<not-allowed ',
      '<max-items-exceeded ',
    ],
    [
      '<amqp> without body',
      'set',
      '',
      "<publish node='logs'><item><amqp xmlns='urn:warren:amqp:0'/></item></publish>",
      '<bad-request ',
      '<invalid-payload ',
    ],
    [
      '<amqp> with a body of no encoding',
      'set',
      '',
      "<publish node='logs'><item><amqp xmlns='urn:warren:amqp:0'><body encoding='rot13'>x</body></amqp></item></publish>",
      '<bad-request ',
      'rot13',
    ],
    [
      'to configure in creating',
      'set',
      '',
      "<create node='n'/><configure><x xmlns='jabber:x:data' type='submit'><field var='pubsub#max_items'><value>1</value></field></x></configure>",
      '<feature-not-implemented ',
      'feature="create-and-configure"',
    ],
    ['to delete a key', 'set', '#owner', "<delete node='logs/k'/>", '<not-allowed ', ''],
    ['to delete in the wrong namespace', 'set', '', "<delete node='logs'/>", '<feature-not-implemented ', ''],
    ['items', 'get', '', "<items node='logs'/>", '<feature-not-implemented ', 'feature="retrieve-items"'],
    [
      'to retract',
      'set',
      '',
      "<retract node='logs'><item id='i'/></retract>",
      '<feature-not-implemented ',
      'feature="delete-items"',
    ],
    [
      'options',
      'get',
      '',
      "<options node='logs' jid='guest@localhost'/>",
      '<feature-not-implemented ',
      'feature="subscription-options"',
    ],
    ['defaults', 'get', '#owner', '<default/>', '<feature-not-implemented ', 'feature="retrieve-default"'],
    ['to configure', 'get', '#owner', "<configure node='logs'/>", '<feature-not-implemented ', 'feature="config-node"'],
    ['to purge', 'set', '#owner', "<purge node='logs'/>", '<feature-not-implemented ', 'feature="purge-nodes"'],
    [
      'to manage subscriptions',
      'get',
      '#owner',
      "<subscriptions node='logs'/>",
      '<feature-not-implemented ',
      'feature="manage-subscriptions"',
    ],
    [
      'to manage affiliations',
      'get',
      '#owner',
      "<affiliations node='logs'/>",
      '<feature-not-implemented ',
      'feature="modify-affiliations"',
    ],
    ['what nobody knows', 'set', '', '<dance/>', '<feature-not-implemented ', ''],
    ['nothing', 'set', '', '', '<bad-request ', ''],
  ] as const)('%s', async (_what, type, namespace, payload, condition, detail) => {
    const answer = await ask(payload, type, raw, namespace);
    expect(answer).toContain('type="error"');
    expect(answer).toContain(condition);
    expect(answer).toContain(detail);
    expect((await scene.broker.snapshot('/')).bindings).toEqual([]);
  });
});

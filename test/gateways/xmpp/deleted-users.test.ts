/** What is kept under somebody's name goes with him: the next user of that name is somebody else. */
import { beforeEach, describe, expect, it } from 'vitest';
import { SILENT_LOG } from '../../../gateways/log.ts';
import { RosterStore } from '../../../gateways/xmpp/roster.ts';
import { eventually } from '../../support/eventually.ts';
import { type RawClient, useXmpp } from './scene.ts';

const scene = useXmpp();
const ROSTER = "<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>";

let name = 'carl0';
beforeEach(async () => {
  name = `carl${Number(name.slice(4)) + 1}`;
  await create();
});

async function create(): Promise<void> {
  const { administration } = scene.broker;
  await administration.putUser({ name, password: 'secret' });
  await administration.setPermission({ vhost: '/', user: name, configure: '.*', write: '.*', read: '.*' });
}

/** He and berta follow each other, and he follows an exchange. */
async function settleIn(carl: RawClient, berta: RawClient): Promise<void> {
  await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
  carl.say(
    "<presence/><presence type='subscribe' to='x@broker.localhost'/><presence type='subscribe' to='berta@localhost'/>",
  );
  await berta.until(`type="subscribe" to="berta@localhost/desk" from="${name}@localhost"`);
  berta.say(`<presence type='subscribed' to='${name}@localhost'/><presence type='subscribe' to='${name}@localhost'/>`);
  await carl.until('type="subscribe" to=');
  carl.say("<presence type='subscribed' to='berta@localhost'/>");
  await berta.until('type="subscribed"');
  await carl.settled();
  await eventually(async () => expect((await scene.broker.snapshot('/')).bindings).toHaveLength(1));
}

async function expectNothingLeft(berta: RawClient): Promise<void> {
  await eventually(async () => {
    const { queues, bindings } = await scene.broker.snapshot('/');
    expect(queues.map((queue) => queue.name)).not.toContain(`${name}@localhost`);
    expect(bindings).toEqual([]);
    const { global_parameters: kept } = await scene.broker.administration.exportDefinitions();
    expect(JSON.stringify(kept)).not.toContain(`"xmpp-roster:${name}"`);
  });
  berta.say(ROSTER);
  expect(await berta.until('</query></iq>')).toContain(`<item jid="${name}@localhost" subscription="none"/>`);
  await create();
  const next = await scene.login('home', name);
  next.say(`${ROSTER}<presence/>`);
  expect(await next.until(/<query xmlns="jabber:iq:roster"[^>]*(\/>|>.*?<\/query>)/)).not.toContain('<item');
  await next.settled();
  berta.say('<presence><show>away</show></presence>');
  await berta.settled();
  expect(await next.settled()).not.toMatch(/<presence[^>]*berta|<message/);
}

describe('a user who is deleted', () => {
  it('while he is there: his streams end, and nothing of his is left', async () => {
    const berta = await scene.login('desk', 'berta');
    berta.say('<presence/>');
    const carl = await scene.login('home', name);
    await settleIn(carl, berta);
    const quiet = await scene.login('quiet', name);
    const unbound = await scene.raw();
    await unbound.login(name, 'secret');
    const resumable = await scene.login('resumable', name);
    resumable.say("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
    await resumable.until('<enabled');
    resumable.socket.destroy();
    await scene.broker.administration.deleteUser(name);
    for (const stream of [carl, quiet, unbound]) expect(await stream.ended()).toContain('is deleted');
    await berta.until(`<presence type="unsubscribed" from="${name}@localhost"`);
    await expectNothingLeft(berta);
  });

  it('while he is away: neither what he had, nor what was left for him', async () => {
    const berta = await scene.login('desk', 'berta');
    berta.say('<presence/>');
    const carl = await scene.login('home', name);
    await settleIn(carl, berta);
    carl.say('</stream:stream>');
    await carl.ended();
    berta.say(`<message to='${name}@localhost' type='chat'><body>for you alone</body></message>`);
    scene.publish('x', '', 'you have waited for this');
    await eventually(async () => {
      const view = (await scene.broker.snapshot('/')).queues.find((queue) => queue.name === `${name}@localhost`);
      expect(view?.messagesReady).toBe(2);
    });
    await scene.broker.administration.deleteUser(name);
    await expectNothingLeft(berta);
  });
});

it('a roster that is still in somebody’s hands is not kept any more', async () => {
  const store = new RosterStore(scene.broker.administration, SILENT_LOG);
  const roster = store.open('dora');
  roster.alter('one@localhost', { listed: true });
  await store.flush();
  expect(store.forget('dora').map(({ jid }) => jid)).toEqual(['one@localhost']);
  roster.alter('two@localhost', { listed: true });
  const next = store.open('dora');
  expect([next.items, next.version]).not.toEqual([[], roster.version]);
  await store.flush();
  const { global_parameters: kept } = await scene.broker.administration.exportDefinitions();
  expect(JSON.stringify(kept)).not.toContain('xmpp-roster:dora');
});

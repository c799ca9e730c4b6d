/** Rabbiter inside ejabberd and Prosody, as a component; and slixmpp on Warren's own client port. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type Server, startServer } from '../../../examples/toy-twitter/server.ts';
import { type Chatter, FREE_PORTS, listen, usePlace } from '../../examples/toy-twitter-place.ts';
import { type XmppClient, xml, xmppClient } from '../../gateways/xmpp/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith, ForeignProgram, PYTHON } from '../interop/foreign-program.ts';
import { COMPONENT_DOMAIN, ejabberd, prosody, SECRET, USER, type XmppServer } from '../servers/xmpp-servers.ts';

const SLOW = { timeoutMs: 60_000, everyMs: 50 };
const BOT = `rabbiter@${COMPONENT_DOMAIN}`;

function stories(makeServer: () => Promise<XmppServer>): void {
  let xmpp: XmppServer;
  let place: Server;
  let romeo: string;
  const chatters: Chatter[] = [];

  beforeAll(async () => {
    xmpp = await makeServer();
    await xmpp.start();
    romeo = `${USER.username}@${xmpp.domain}`;
    place = await startServer({
      ports: FREE_PORTS,
      botDomain: 'home.localhost',
      components: [{ domain: COMPONENT_DOMAIN, host: '127.0.0.1', port: xmpp.componentPort, secret: SECRET }],
    });
    await place.twitter.join('juliet');
  });
  afterEach(async () => {
    for (const chatter of chatters.splice(0)) await chatter.stop();
  });
  afterAll(async () => {
    await place?.close();
    await xmpp?.remove();
  });

  /** Logs in, and grants every request for presence, as a person would. */
  async function online(): Promise<Chatter> {
    const service = `xmpp://127.0.0.1:${xmpp.clientPort}`;
    const client: XmppClient = xmppClient({ service, domain: xmpp.domain, ...USER, resource: 'desk' });
    client.on('stanza', ({ name, attrs: { type, from } }) => {
      if (name === 'presence' && type === 'subscribe')
        void client.send(xml('presence', { type: 'subscribed', to: from }));
    });
    const chatter = await listen(client, BOT);
    chatters.push(chatter);
    await client.iqCaller.request(xml('iq', { type: 'get' }, xml('query', 'jabber:iq:roster')));
    await chatter.presence();
    return chatter;
  }

  async function isRead(count: number): Promise<void> {
    await eventually(async () => {
      const { queues } = await place.broker.snapshot('/');
      const inbox = queues.find(({ name }) => name === `twitter.inbox.${romeo}`);
      expect(inbox?.consumers.length).toBe(count);
    }, SLOW);
  }

  async function offline(chatter: Chatter): Promise<void> {
    await chatter.stop();
    await isRead(0);
  }

  it('its user adds it, and follows and is followed by somebody of the web', async () => {
    const chatter = await online();
    await eventually(async () => {
      // Until the link is up there is nobody to ask.
      await chatter.client.iqCaller.request(xml('iq', { type: 'get', to: BOT }, xml('ping', 'urn:xmpp:ping')));
    }, SLOW);
    await chatter.presence({ type: 'subscribe', to: BOT });
    await eventually(() => expect(chatter.texts.at(-1)).toMatch(new RegExp(`^Hello, ${romeo}`)), SLOW);
    await isRead(1);
    expect(await chatter.ask('*follow juliet@localhost')).toBe('You are now following juliet@localhost.');
    await place.twitter.follow('juliet', romeo);
    await eventually(() => expect(chatter.texts.at(-1)).toBe('juliet@localhost decided to follow you.'), SLOW);
    await place.twitter.post('juliet', 'wherefore <b>art</b> thou?');
    await eventually(
      () => expect(chatter.texts.at(-1)).toBe('from juliet@localhost: wherefore <b>art</b> thou?'),
      SLOW,
    );
    const heard: string[] = [];
    const timeline = await place.twitter.timeline('juliet', {
      onItem(item, settle) {
        if (item?.kind === 'post') heard.push(`${item.author}: ${item.text}`);
        settle.taken();
      },
    });
    await chatter.say('here below');
    await eventually(() => expect(heard).toEqual([`${romeo}: here below`]), SLOW);
    await timeline.close();
    expect(await chatter.ask('*followers')).toBe('You are followed by juliet@localhost.');
    expect(await chatter.ask('*whois montague')).toBe(`${romeo} follows 1, followed by 1`);
  });

  it('what he misses waits for him', async () => {
    const chatter = await online();
    await isRead(1);
    await offline(chatter);
    const texts = Array.from({ length: 50 }, (_, index) => `n${index}`);
    for (const text of texts) await place.twitter.post('juliet', text);
    const again = await online();
    await eventually(() => expect(again.texts).toEqual(texts.map((text) => `from juliet@localhost: ${text}`)), SLOW);
    await offline(again);
  });

  it('nobody of his server is somebody who is at home here', async () => {
    const chatter = await online();
    await isRead(1);
    expect(await chatter.ask('*invite tybalt@localhost')).toBe(`I know no way to tybalt@localhost from here.`);
    expect(await chatter.ask(`*invite tybalt@${xmpp.domain}`)).toMatch(/^I have sent tybalt@/);
  });

  it('the link may break, and nothing is lost', async () => {
    const chatter = await online();
    await isRead(1);
    await chatter.stop();
    await xmpp.stop();
    await isRead(0);
    await place.twitter.post('juliet', 'while the server was away');
    await xmpp.start();
    const again = await online();
    await eventually(() => expect(again.texts.at(-1)).toBe('from juliet@localhost: while the server was away'), SLOW);
    await place.twitter.post('juliet', 'and after that');
    await eventually(() => expect(again.texts.at(-1)).toBe('from juliet@localhost: and after that'), SLOW);
  });

  it('he removes it, and all that was his goes', async () => {
    const chatter = await online();
    await isRead(1);
    await chatter.presence({ type: 'unsubscribe', to: BOT });
    await eventually(async () => {
      const { queues, exchanges } = await place.broker.snapshot('/');
      expect([...queues, ...exchanges].filter(({ name }) => name.includes(romeo))).toEqual([]);
    }, SLOW);
    expect((await place.twitter.graph()).followers('juliet')).toEqual([]);
  });
}

describeWith('prosody', ['prosodyctl', 'about'])('Rabbiter in Prosody', () => stories(prosody));
describeWith('ejabberd', ['sh', '-c', 'command -v ejabberdctl && test "$(id -u)" = 0'])('Rabbiter in ejabberd', () =>
  stories(ejabberd),
);

describeWith('python3-slixmpp', [PYTHON, '-c', 'import slixmpp'])('Rabbiter and slixmpp', () => {
  const place = usePlace();

  it('get to know each other, and talk', async () => {
    const { accounts, twitter, ports } = place.server;
    const { passcode } = await accounts.signIn('slix', undefined, true);
    await twitter.join('anna');
    const program = new ForeignProgram(PYTHON, [
      join(import.meta.dirname, 'rabbiter-slixmpp.py'),
      String(ports.xmpp),
      passcode,
    ]);
    await program.waitFor('following');
    await twitter.post('anna', 'Good <b>morning</b>, Python');
    await program.succeeds();
    expect(program.printed).toMatch(/^done$/m);
    expect((await twitter.search('@slix')).map(({ text }) => text)).toEqual(['hello from slixmpp']);
  });
});

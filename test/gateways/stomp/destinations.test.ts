/** CONNECT, and where SEND and SUBSCRIBE lead: destinations, reply queues. */
import { describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();

describe('CONNECT', () => {
  it.each([
    ['1.2', '1.2'],
    ['1.0,1.1,1.2', '1.2'],
    ['1.0,1.1', '1.1'],
    ['1.1, 2.0', '1.1'],
    ['1.0', '1.0'],
  ])('accept-version %s gives %s', async (accepted, version) => {
    const client = await scene.dial();
    const { command, headers } = await client.login({ 'accept-version': accepted });
    expect([command, headers.version]).toEqual(['CONNECTED', version]);
    expect(headers.session).toMatch(/^session-./);
    expect(headers.server).toMatch(/^Warren\//);
  });

  it('no accept-version is 1.0, and the command STOMP does the same', async () => {
    const client = await scene.dial();
    client.send('STOMP', { login: 'guest', passcode: 'guest' });
    expect((await client.next()).headers.version).toBe('1.0');
  });

  it('no common version is refused with the versions there are', async () => {
    const client = await scene.dial();
    const { command, headers, body } = await client.login({ 'accept-version': '2.0' });
    expect([command, headers.message, headers.version]).toEqual(['ERROR', 'Version mismatch', '1.0,1.1,1.2']);
    expect(body).toContain('1.0,1.1,1.2');
    await client.end();
  });

  it.each([
    ['a wrong passcode', { passcode: 'wrong' }, 'Bad CONNECT'],
    ['an unknown virtual host', { host: 'nowhere' }, 'Bad CONNECT'],
    ['heart-beats that are none', { 'heart-beat': 'often' }, 'Bad CONNECT'],
  ])('%s is refused', async (_what, headers, message) => {
    const client = await scene.dial();
    const answer = await client.login(headers);
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', message]);
    await client.end();
  });

  it('who names the server as host is told what host means; an empty one is the default', async () => {
    const { body } = await (await scene.dial()).login({ host: 'localhost' });
    expect(body).toMatch(
      /^Virtual host 'localhost' access denied: .*vhost localhost not found .*header 'host' names a/,
    );
    expect((await (await scene.dial()).login({ host: '' })).command).toBe('CONNECTED');
  });

  it('no login is refused where there is no default user', async () => {
    const client = await scene.dial();
    client.send('CONNECT', { 'accept-version': '1.2', host: '/' });
    expect((await client.next()).headers.message).toBe('Bad CONNECT');
  });

  it("host selects the virtual host, and rights in it are the broker's", async () => {
    const { administration } = scene.broker;
    await administration.putVhost({ name: 'other' });
    await administration.putUser({ name: 'anna', password: 'secret' });
    await administration.setPermission({ vhost: 'other', user: 'anna', configure: '', write: '^mine', read: '.*' });
    const client = await scene.connect({ host: 'other', login: 'anna', passcode: 'secret' });
    const answer = await client.call('SEND', { destination: '/exchange/amq.topic/k' }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'access_refused']);
  });
});

describe('destinations', () => {
  it('/queue/N is declared durable once, shared, and kept', async () => {
    const queue = scene.fresh('q');
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}` }, 'one');
    const { queues } = await scene.broker.snapshot('/');
    expect(queues.find(({ name }) => name === queue)).toMatchObject({
      durable: true,
      autoDelete: false,
      messagesReady: 1,
    });
    const other = await scene.connect();
    await other.call('SUBSCRIBE', { id: 's', destination: `/queue/${queue}` });
    expect(await other.next()).toMatchObject({
      command: 'MESSAGE',
      headers: { subscription: 's', destination: `/queue/${queue}`, redelivered: 'false', 'content-length': '3' },
      body: 'one',
    });
  });

  it('a queue that is there already is taken as it is', async () => {
    const queue = scene.fresh('not-durable');
    await scene.program.openChannel().declareQueue({ queue, arguments: { 'x-max-length': 5 } });
    const client = await scene.connect();
    expect((await client.call('SEND', { destination: `/queue/${queue}` }, 'x')).command).toBe('RECEIPT');
    expect((await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, 'x-max-length': 5 })).command).toBe(
      'ERROR',
    );
  });

  it('/amq/queue/N never declares', async () => {
    const client = await scene.connect();
    const queue = scene.fresh('missing');
    expect((await client.call('SEND', { destination: `/amq/queue/${queue}` }, 'lost')).command).toBe('RECEIPT');
    const answer = await client.call('SUBSCRIBE', { id: 1, destination: `/amq/queue/${queue}` });
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'not_found']);
  });

  it('/topic/k fans out by pattern, each subscription with a queue of its own that goes with it', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 'all', destination: '/topic/news.#' });
    await client.call('SUBSCRIBE', { id: 'one', destination: '/topic/news.*' });
    client.send('SEND', { destination: '/topic/news.berlin' }, 'b');
    client.send('SEND', { destination: '/topic/news.berlin.mitte' }, 'm');
    const got = await client.take(3);
    expect(got.map(({ headers, body }) => [headers.subscription, headers.destination, body]).sort()).toEqual([
      ['all', '/topic/news.berlin', 'b'],
      ['all', '/topic/news.berlin.mitte', 'm'],
      ['one', '/topic/news.berlin', 'b'],
    ]);
    const made = async () =>
      (await scene.broker.snapshot('/')).queues.filter(({ name }) => name.startsWith('stomp-subscription-'));
    expect((await made()).map(({ exclusive, autoDelete }) => [exclusive, autoDelete])).toEqual([
      [true, true],
      [true, true],
    ]);
    await client.call('UNSUBSCRIBE', { id: 'all' });
    expect(await made()).toHaveLength(1);
    await client.call('DISCONNECT');
    expect(await made()).toHaveLength(0);
  });

  it('/exchange/N/key publishes and binds; without a key the empty one is bound', async () => {
    const channel = scene.program.openChannel();
    await channel.declareExchange({ exchange: 'stomp.x', type: 'direct' });
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/exchange/stomp.x/a' });
    await client.call('SUBSCRIBE', { id: 2, destination: '/exchange/stomp.x' });
    await client.call('SUBSCRIBE', { id: 3, destination: '/exchange/stomp.x', 'x-bind': 'b' });
    for (const [to, body] of [
      ['/a', 'A'],
      ['', 'no key'],
      ['/b', 'B'],
    ]) {
      client.send('SEND', { destination: `/exchange/stomp.x${to}` }, body);
    }
    const came = (await client.take(3)).map(({ headers, body }) => [headers.subscription, headers.destination, body]);
    expect(came).toEqual([
      ['1', '/exchange/stomp.x/a', 'A'],
      ['2', '/exchange/stomp.x', 'no key'],
      ['3', '/exchange/stomp.x/b', 'B'],
    ]);
    expect((await client.call('SUBSCRIBE', { id: 4, destination: '/exchange/no.such' })).headers.message).toBe(
      'not_found',
    );
    const other = await scene.connect();
    const answer = await other.call('SEND', { destination: '/exchange/no.such' }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'not_found']);
  });

  it('names are escaped both ways', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/queue/a%2Fb%25c%C3%A9' });
    expect(await scene.ready('a/b%cé')).toBe(0);
    client.send('SEND', { destination: '/queue/a%2Fb%25c%C3%A9' }, 'x');
    expect((await client.next()).headers.destination).toBe('/queue/a%2Fb%25c%C3%A9');
  });

  it.each([
    ['/nowhere/x', 'Unknown destination'],
    ['/topic', 'Invalid destination'],
    ['/exchange//k', 'Invalid destination'],
    ['/queue/', 'Invalid destination'],
    ['/queue/a/b', 'Invalid destination'],
    ['/exchange/a/b/c', 'Invalid destination'],
    ['/temp-queue/x', 'Invalid destination'],
    ['/queue/%FF', 'Invalid destination'],
    [`/queue/${'n'.repeat(256)}`, 'Invalid destination'],
  ])('SEND to %s is refused: %s', async (destination, message) => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', message]);
    await client.end();
  });

  it('a frame without destination is refused', async () => {
    for (const command of ['SEND', 'SUBSCRIBE']) {
      const client = await scene.connect();
      expect((await client.call(command, { id: 1 })).headers.message).toBe('Missing destination');
    }
  });
});

describe('reply queues', () => {
  it('/temp-queue/N in reply-to: the responder gets an address, the requester the reply', async () => {
    const queue = scene.fresh('rpc');
    const responder = await scene.connect();
    await responder.call('SUBSCRIBE', { id: 'rpc', destination: `/queue/${queue}` });
    const requester = await scene.connect();
    for (const question of ['first?', 'second?']) {
      requester.send(
        'SEND',
        { destination: `/queue/${queue}`, 'reply-to': '/temp-queue/answers', 'correlation-id': 7 },
        question,
      );
      const request = await responder.next();
      const address = request.headers['reply-to'] ?? '';
      expect(address).toMatch(/^\/reply-queue\/stomp\.gen-/);
      responder.send('SEND', { destination: address, 'correlation-id': 7 }, `re: ${question}`);
      const reply = await requester.next();
      expect(reply.body).toBe(`re: ${question}`);
      expect(reply.headers).toMatchObject({ subscription: '/temp-queue/answers', 'correlation-id': '7' });
    }
  });

  it('to an AMQP responder the reply-to is the name of the queue', async () => {
    const queue = scene.fresh('rpc');
    const requester = await scene.connect();
    await requester.call('SEND', { destination: `/queue/${queue}`, 'reply-to': '/temp-queue/a' }, '?');
    const channel = scene.program.openChannel();
    const got = await channel.get(queue, { noAck: true });
    const replyTo = got?.message.properties.replyTo ?? '';
    expect(replyTo).toMatch(/^stomp\.gen-/);
    channel.publish(createMessage({ routingKey: replyTo, body: '!' }));
    expect((await requester.next()).body).toBe('!');
  });

  it('anybody may send to the exclusive queue of an AMQP requester', async () => {
    const owner = await scene.broker.connect();
    const channel = owner.openChannel();
    const { queue } = await channel.declareQueue({ queue: '', exclusive: true });
    const responder = await scene.connect();
    expect((await responder.call('SEND', { destination: queue }, 're')).command).toBe('RECEIPT');
    expect((await channel.get(queue))?.message.bodyBytes).toBe(2);
    await owner.close();
  });
});

/** The stories of examples/toy-twitter/twitter.ts and of its command line, for any broker that speaks AMQP 0-9-1. */
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../examples/toy-twitter/command-line.ts';
import { FOLLOWING_MAX } from '../../examples/toy-twitter/graph.ts';
import { type Deed, isNews, type Post } from '../../examples/toy-twitter/posts.ts';
import { ARCHIVE_MAX, INBOX_MAX, SPARE_DEEDS_MAX, Twitter } from '../../examples/toy-twitter/twitter.ts';
import { eventually } from '../support/eventually.ts';

export interface RunningBroker {
  readonly url: string;
  stop(): Promise<void>;
}

/** What somebody has read, and his hand on it. */
interface Reading {
  readonly texts: string[];
  readonly items: (Post | Deed | undefined)[];
  close(): Promise<void>;
}

const SLOW = { timeoutMs: 10_000 };

export function twitterStories(start: () => Promise<RunningBroker>): void {
  let broker: RunningBroker;
  let twitter: Twitter;
  let amqp: ChannelModel;
  const closings: (() => Promise<unknown>)[] = [];
  let people = 0;

  beforeAll(async () => {
    broker = await start();
    twitter = await Twitter.connect(broker.url);
    amqp = await connect(broker.url);
  });
  afterEach(async () => {
    for (const close of closings.splice(0)) await close();
  });
  afterAll(async () => {
    await twitter?.close();
    await amqp?.close();
    await broker?.stop();
  });

  /** Joins, under a name that no other test has. */
  async function person(name: string, by = twitter): Promise<string> {
    people += 1;
    const own = `${name}${people}`;
    await by.join(own);
    return own;
  }

  /** Reads somebody's inbox, and takes everything unless told to keep it. */
  async function read(name: string, { takes = true, priority = 0 } = {}): Promise<Reading> {
    const items: (Post | Deed | undefined)[] = [];
    const texts: string[] = [];
    const timeline = await twitter.timeline(name, {
      priority,
      onItem(item, settle) {
        items.push(item);
        if (item?.kind === 'post') texts.push(`${item.author}: ${item.text}`);
        else texts.push(item === undefined ? 'odd' : `${item.deed} by ${item.who}`);
        if (takes) settle.taken();
      },
    });
    closings.push(() => timeline.close());
    return { texts, items, close: () => timeline.close() };
  }

  /** One command as a user gives it. */
  async function command(...words: string[]): Promise<{ code: number; said: string[] }> {
    const said: string[] = [];
    const print = (line: string): void => void said.push(line);
    const interrupted = new AbortController().signal;
    const code = await run(words, { print, complain: print, interrupted, environment: { AMQP_URL: broker.url } });
    return { code, said };
  }

  describe('people', () => {
    it('follow one another one way only, and read what the others say', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      expect(await twitter.follow(ben, anna)).toBe(true);
      await twitter.post(anna, 'hello');
      await twitter.post(ben, 'anna does not hear this');
      await twitter.post(anna, '<b>two\nlines</b>');
      const [bens, annas] = [await read(ben), await read(anna)];
      await eventually(() => expect(bens.texts).toEqual([`${anna}: hello`, `${anna}: <b>two\nlines</b>`]));
      await eventually(() => expect(annas.texts).toEqual([`follow by ${ben}`]));
    });

    it('get what was said while they were away, once, and nothing after they have unfollowed', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      await twitter.follow(ben, anna);
      const first = await read(ben, { takes: false });
      await twitter.post(anna, 'one');
      await eventually(() => expect(first.texts).toEqual([`${anna}: one`]));
      await first.close();
      const second = await read(ben);
      await eventually(() => expect(second.texts).toEqual([`${anna}: one`]));
      await second.close();
      await twitter.unfollow(ben, anna);
      await twitter.post(anna, 'two');
      const [bens, annas] = [await read(ben), await read(anna)];
      await eventually(() => expect(annas.texts).toEqual([`follow by ${ben}`, `unfollow by ${ben}`]));
      expect(bens.texts).toEqual([]);
    });

    it('may follow themselves, without notice to themselves or anybody', async () => {
      const anna = await person('anna');
      await twitter.follow(anna, anna);
      await twitter.post(anna, 'echo');
      const annas = await read(anna);
      await eventually(() => expect(annas.texts).toContain(`${anna}: echo`));
      expect(annas.items.filter((item) => isNews(item, anna))).toHaveLength(1);
      expect((await twitter.graph()).following(anna)).toEqual([]);
      expect((await twitter.graph()).followers(anna)).toEqual([]);
    });

    it('leave with all that is theirs, and are known when they come back', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      await twitter.follow(ben, anna);
      await twitter.follow(anna, ben);
      expect(await twitter.leave(anna)).toBe(true);
      const graph = await twitter.graph();
      expect([graph.has(anna), graph.hasLeft(anna), graph.following(ben), graph.followers(ben)]).toEqual([
        false,
        true,
        [],
        [],
      ]);
      await expect(twitter.post(anna, 'x')).rejects.toMatchObject({ reason: 'not-joined' });
      expect(await twitter.join(anna)).toBe('back');
      expect(await twitter.join(anna)).toBe('already');
      expect(await twitter.leave('nobody-ever')).toBe(false);
    });

    it('are told politely what cannot be', async () => {
      const anna = await person('anna');
      await expect(twitter.follow(anna, 'nobody')).rejects.toMatchObject({ reason: 'unknown-person' });
      await expect(twitter.unfollow(anna, 'nobody')).rejects.toMatchObject({ reason: 'not-following' });
      await expect(twitter.follow('nobody', anna)).rejects.toMatchObject({ reason: 'not-joined' });
      await expect(twitter.timeline('nobody', { onItem() {} })).rejects.toMatchObject({ reason: 'not-joined' });
      await expect(twitter.post(anna, ' \n ')).rejects.toMatchObject({ reason: 'empty' });
      await expect(twitter.post(anna, 'x'.repeat(501))).rejects.toMatchObject({ reason: 'too-long' });
      await twitter.post(anna, '🦊'.repeat(500));
    });

    it('have names with dots, stars and hashes in them, which mean nothing to the topic exchange', async () => {
      const anna = await person('anna');
      const odd = [`#.*@x.example`, `*@x.example`, `a.#.b%2A@x.example`, 'анна', 'max.w'];
      for (const name of odd) {
        await twitter.join(name);
        await twitter.follow(anna, name);
      }
      expect((await twitter.graph()).following(anna)).toEqual([...odd].sort());
      for (const name of odd) {
        const reading = await read(name);
        await eventually(() => expect(reading.texts).toEqual([`follow by ${anna}`]));
        await twitter.leave(name);
      }
    });
  });

  describe('an inbox', () => {
    it('is read by the reader with the highest priority', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      await twitter.follow(ben, anna);
      const [low, high] = [await read(ben), await read(ben, { priority: 5 })];
      for (let index = 0; index < 10; index += 1) await twitter.post(anna, `n${index}`);
      await eventually(() => expect(high.texts).toHaveLength(10));
      expect(low.texts).toEqual([]);
    });

    it('takes a flood, and what makes no sense', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      await twitter.follow(ben, anna);
      const channel = await amqp.createConfirmChannel();
      const exchange = `twitter.user.${anna}`;
      for (let index = 0; index < INBOX_MAX + 50; index += 1)
        channel.publish(exchange, 'say', Buffer.from(`n${index}`));
      channel.publish(exchange, 'say', Buffer.from('y'.repeat(100_000)));
      channel.publish(exchange, 'say', Buffer.from([0xff, 0xfe, 0x00]));
      channel.publish('', `twitter.inbox.${ben}`, Buffer.from('from nobody'));
      for (const key of ['gibberish', 'follow.', 'contact', 'unfollow', '', 'constructor.x']) {
        channel.publish(exchange, key, Buffer.from('{'));
      }
      await channel.waitForConfirms();
      expect(await twitter.unread(ben)).toBe(INBOX_MAX);
      const bens = await read(ben);
      await eventually(() => expect(bens.texts).toHaveLength(INBOX_MAX), SLOW);
      const [long, binary, nobodys] = bens.items.slice(-3) as [Post, Post, Post];
      expect([...long.text]).toHaveLength(2001);
      expect(binary.text).toBe('\u{fffd}\u{fffd}\0');
      expect(nobodys).toMatchObject({ author: undefined, text: 'from nobody' });
      expect((await twitter.graph()).has(anna)).toBe(true);
      await channel.close();
    });
  });

  it('takes nothing for said tomorrow, or at no time at all', async () => {
    const [anna, ben] = [await person('anna'), await person('ben')];
    await twitter.follow(ben, anna);
    const channel = await amqp.createConfirmChannel();
    const begin = Date.now();
    for (const timestamp of [2 ** 53, Math.floor(begin / 1000) + 86_400, 0, 1_700_000_000])
      channel.publish(`twitter.user.${anna}`, 'say', Buffer.from('when?'), { timestamp });
    await channel.waitForConfirms();
    const bens = await read(ben);
    await eventually(() => expect(bens.items).toHaveLength(4), SLOW);
    const times = bens.items.map((item) => (item?.kind === 'post' ? item.at.getTime() : Number.NaN));
    expect(times.pop()).toBe(1_700_000_000_000);
    for (const time of times) expect(time >= begin && time <= Date.now()).toBe(true);
    await channel.close();
  });

  describe('the graph', () => {
    it('is the same for a program that keeps it and for one that reads it', async () => {
      const keeping = await Twitter.connect(broker.url);
      closings.push(() => keeping.close());
      await keeping.keepGraph();
      const [anna, ben] = [await person('anna', keeping), await person('ben')];
      await keeping.follow(ben, anna);
      expect((await keeping.graph()).followers(anna)).toEqual([ben]);
      await twitter.unfollow(ben, anna);
      await eventually(async () => expect((await keeping.graph()).followers(anna)).toEqual([]));
      await twitter.follow(ben, anna);
      await eventually(async () => expect((await keeping.graph()).record).toEqual((await twitter.graph()).record));
    });

    it('can be read by many at a time, who all see all of it', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      await twitter.follow(ben, anna);
      const others = await Promise.all(Array.from({ length: 4 }, () => Twitter.connect(broker.url)));
      closings.push(...others.map((other) => () => other.close()));
      const graphs = await Promise.all([...others, ...others].map((other) => other.graph()));
      for (const graph of graphs) expect(graph.followers(anna)).toEqual([ben]);
    });

    it('is written down as one when its deeds have become many', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      const channel = await amqp.createConfirmChannel();
      for (let index = 0; index <= SPARE_DEEDS_MAX / 2; index += 1) {
        for (const deed of ['unfollow', 'follow'])
          channel.publish(`twitter.user.${ben}`, `${deed}.${anna}`, Buffer.of());
      }
      await channel.waitForConfirms();
      const before = (await twitter.graph()).record;
      const { messageCount } = await channel.checkQueue('twitter.graph');
      expect(messageCount).toBe(1);
      expect((await twitter.graph()).record).toEqual(before);
      await twitter.unfollow(ben, anna);
      expect((await twitter.graph()).followers(anna)).toEqual([]);
      await channel.close();
    });

    it('is written down as one by a program that runs for long, too', async () => {
      const [anna, ben] = [await person('anna'), await person('ben')];
      const keeper = await Twitter.connect(broker.url);
      closings.push(() => keeper.close());
      await keeper.keepGraph();
      const channel = await amqp.createConfirmChannel();
      for (let index = 0; index < 2 * SPARE_DEEDS_MAX; index += 1) {
        for (const deed of ['unfollow', 'follow'])
          channel.publish(`twitter.user.${ben}`, `${deed}.${anna}`, Buffer.of());
      }
      await channel.waitForConfirms();
      await eventually(async () => {
        const { messageCount } = await channel.checkQueue('twitter.graph');
        expect(messageCount).toBeLessThan(2 * SPARE_DEEDS_MAX);
        expect((await keeper.graph()).record).toEqual((await twitter.graph()).record);
      }, SLOW);
      await channel.close();
    });
  });

  it('nobody follows more than he can', async () => {
    const [anna, ben] = [await person('anna'), await person('ben')];
    const channel = await amqp.createConfirmChannel();
    for (let index = 0; index < FOLLOWING_MAX; index += 1) {
      channel.publish(`twitter.user.${ben}`, `follow.n${index}`, Buffer.of());
    }
    await channel.waitForConfirms();
    await expect(twitter.follow(ben, anna)).rejects.toMatchObject({ reason: 'too-many' });
    await twitter.leave(ben);
    await channel.close();
  });

  describe('search', () => {
    it('finds words and authors among the latest posts, and leaves them where they are', async () => {
      const anna = await person('anna');
      await twitter.post(anna, 'The Quick brown fox');
      await twitter.post(anna, 'the lazy dog');
      for (let again = 0; again < 2; again += 1) {
        const texts = (await twitter.search(`@${anna} the`)).map(({ text }) => text);
        expect(texts).toEqual(['The Quick brown fox', 'the lazy dog']);
      }
      expect((await twitter.search('QUICK fox')).map(({ author }) => author)).toContain(anna);
      expect(await twitter.search('never said')).toEqual([]);
    });

    it('keeps so many and no more', async () => {
      const anna = await person('anna');
      const channel = await amqp.createConfirmChannel();
      const count = ARCHIVE_MAX + 20;
      for (let index = 0; index < count; index += 1) {
        channel.publish(`twitter.user.${anna}`, 'say', Buffer.from(`n${index}`));
      }
      await channel.waitForConfirms();
      const found = await twitter.search(`@${anna}`);
      expect([found.length, found[0]?.text, found.at(-1)?.text]).toEqual([ARCHIVE_MAX, 'n20', `n${count - 1}`]);
      await channel.close();
    });

    it('tells of what is said later', async () => {
      const anna = await person('anna');
      const texts: string[] = [];
      const stop = await twitter.watch('fox', ({ text }) => texts.push(text));
      await twitter.post(anna, 'a dog');
      await twitter.post(anna, 'a Fox');
      await eventually(() => expect(texts).toEqual(['a Fox']));
      await stop();
    });
  });

  describe('the command line', () => {
    it('tells a whole story', async () => {
      const [carla, dora] = ['carla', 'dora'];
      expect(await command('--as', carla, 'post', 'nobody', 'hears')).toEqual({
        code: 0,
        said: [`Welcome, ${carla}.`],
      });
      expect((await command('--as', dora, 'follow', '@Carla')).said).toEqual([
        `Welcome, ${dora}.`,
        `You are now following ${carla}.`,
      ]);
      expect((await command('--as', dora, 'follow', 'carla@localhost')).said).toEqual([
        `You are following ${carla} already.`,
      ]);
      for (const said of [
        'now following yourself: what you say will come back to you.',
        'following yourself already.',
      ]) {
        expect((await command('--as', 'selma', 'follow', 'selma')).said.at(-1)).toBe(`You are ${said}`);
      }
      await command('--as', carla, 'post', 'Good', 'morning \u001b[31m');
      expect((await command('--as', dora, 'timeline')).said).toEqual([
        expect.stringMatching(/^\d\d:\d\d carla: Good morning \u{fffd}\[31m$/u),
      ]);
      expect((await command('--as', dora, 'timeline')).said).toEqual(['Nothing new.']);
      expect((await command('--as', carla, 'timeline')).said).toEqual(['* dora decided to follow you.']);
      expect((await command('--as', dora, 'following')).said).toEqual(['dora follows carla.']);
      expect((await command('--as', dora, 'followers', 'carla')).said).toEqual(['carla is followed by dora.']);
      expect((await command('--as', dora, 'followers')).said).toEqual(['Nobody follows dora.']);
      expect((await command('--as', dora, 'search', '@carla', 'morning')).said).toHaveLength(1);
      expect((await command('--as', dora, 'unfollow', 'carla')).said).toEqual(['You are no longer following carla.']);
      expect((await command('--as', carla, 'leave')).said).toEqual(['Goodbye, carla.']);
      expect((await command('--as', carla, 'leave')).said).toEqual(['There is nobody named carla here.']);
    });

    it.each([
      [['--as', 'dora', 'follow', 'nobody'], /^I do not know nobody/],
      [['--as', 'dora', 'unfollow', 'nobody'], /^You were not following nobody/],
      [['--as', 'A B', 'post', 'x'], /^“A B” cannot be a name/],
      [['--as', 'dora', 'follow', '💥<script>'], /cannot be a name/],
      [['--as', 'dora', 'follow', 'a b@x'], /is no XMPP address/],
      [['--as', 'dora', 'post', ' '], /nothing in that to say/],
      [['--as', 'dora', 'post', 'z'.repeat(501)], /501 characters long/],
      [['post', 'x'], /^Who are you/],
      [['--url', 'amqp://127.0.0.1:1', '--as', 'dora', 'post', 'x'], /^The broker cannot be used: .*ECONNREFUSED/],
      [['--as', 'dora', 'shout', 'x'], /unknown command/],
    ])('says politely what is wrong with %j', async (words, complaint) => {
      await twitter.join('dora');
      const { code, said } = await command(...words);
      expect(code).toBe(1);
      expect(said.join('\n')).toMatch(complaint);
    });
  });
}

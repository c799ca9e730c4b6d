/**
 * The page in Chromium: two browsers, what one says appears in the other while it is looked at, and is there when it comes
 * back. With TOY_TWITTER_PICTURES=folder the pictures of docs/ are made anew.
 */
import { join } from 'node:path';
import type { BrowserContextOptions } from 'playwright-core';
import { expect, it } from 'vitest';
import { playDemo } from '../../../examples/toy-twitter/demo.ts';
import { startServer } from '../../../examples/toy-twitter/server.ts';
import { consumers, FREE_PORTS, usePlace } from '../../examples/toy-twitter-place.ts';
import { eventually } from '../../support/eventually.ts';
import { describeWith } from '../interop/foreign-program.ts';
import { follow, live, PHONE, post, SLOW, shown, showsOnly, usePages } from './pages.ts';

const PICTURES = process.env.TOY_TWITTER_PICTURES;
/** Quicker than for people. */
const DEMO_EVERY_MS = 500;

describeWith('chromium', ['chromium', '--version'])('the page of Toy Twitter', () => {
  const place = usePlace();
  const { newContext, newPage, signIn, comeBack, person, watch } = usePages(place);

  it('shows in one browser what is said in another, at once, and the follow in the graph of both', async () => {
    const [anna, ben] = [await person('anna'), await person('ben')];
    await follow(ben, 'anna');
    await showsOnly(anna, 'ben decided to follow you.');
    await post(anna, 'Good morning\nfrom <b>here</b> & <script>alert(1)</script>');
    const said = 'anna: Good morning\nfrom <b>here</b> & <script>alert(1)</script>';
    await showsOnly(ben, said);
    await showsOnly(anna, said, 'ben decided to follow you.');
    expect(await ben.locator('#posts b, #posts script').count()).toBe(0);
    for (const page of [anna, ben]) {
      await eventually(async () => expect(await page.locator('#graph path.edge').count()).toBe(1), SLOW);
      await eventually(
        async () => expect(await page.locator('#graph-text').textContent()).toContain('ben follows anna.'),
        SLOW,
      );
    }
    await anna.getByRole('button', { name: 'Follow back' }).click();
    await showsOnly(ben, 'anna decided to follow you.', said);
    await post(ben, '/me waves');
    await eventually(async () => expect((await shown(anna))[0]).toBe('ben: ben waves'), SLOW);
    await ben.getByRole('button', { name: 'Following anna' }).click();
    await eventually(async () => expect(await anna.locator('#graph path.edge').count()).toBe(1), SLOW);
    await post(anna, 'to nobody');
    await eventually(async () => expect((await shown(anna))[0]).toBe('anna: to nobody'), SLOW);
    expect(await shown(ben)).not.toContain('anna: to nobody');
  });

  it('keeps what is said while one is away, and shows it when he comes back, with what was there before', async () => {
    const [carla, dora] = [await person('carla'), await person('dora')];
    await follow(dora, 'carla');
    await post(carla, 'one');
    await showsOnly(dora, 'carla: one');
    await dora.goto('about:blank');
    await eventually(async () => expect(await consumers(place.amqp, 'dora')).toBe(0), SLOW);
    await post(carla, 'two');
    await eventually(async () => expect((await shown(carla))[0]).toBe('carla: two'), SLOW);
    await post(carla, 'three');
    await eventually(async () => expect(await place.server.twitter.unread('dora')).toBe(2), SLOW);
    await dora.goto(place.server.url);
    await showsOnly(dora, 'carla: three', 'carla: two', 'carla: one');
    await eventually(async () => expect(await place.server.twitter.unread('dora')).toBe(0), SLOW);
    await dora.reload();
    await live(dora);
    await showsOnly(dora, 'carla: three', 'carla: two', 'carla: one');
  });

  it('reconnects by itself, and keeps what is being written', async () => {
    const [emil, frida] = [await person('emil'), await person('frida')];
    await follow(frida, 'emil');
    await emil.getByLabel('What you want to say').fill('half a sen');
    const { administration } = place.server.broker;
    for (const { name, username } of await administration.connections()) {
      if (username === 'emil' || username === 'frida') await administration.closeConnection(name, 'maintenance');
    }
    await emil.waitForSelector('#link:not([data-state=live])');
    await Promise.all([live(emil), live(frida)]);
    expect(await emil.getByLabel('What you want to say').inputValue()).toBe('half a sen');
    await emil.getByRole('button', { name: 'Post' }).click();
    await showsOnly(frida, 'emil: half a sen');
  });

  it('shares one name between windows, and with a chat client whom it comes before', async () => {
    const chat = await place.rabbit('gina');
    await place.server.twitter.join('hans');
    await chat.ask('*follow hans');
    const first = await newPage();
    await comeBack(first, 'gina');
    const second = await first.context().newPage();
    watch(second);
    await second.goto(place.server.url);
    await second.getByRole('button', { name: 'Continue as gina' }).click();
    await live(second);
    for (const text of ['1', '2', '3', '4']) await place.server.twitter.post('hans', text);
    for (const page of [first, second]) await showsOnly(page, 'hans: 4', 'hans: 3', 'hans: 2', 'hans: 1');
    await second.close();
    await eventually(async () => expect(await consumers(place.amqp, 'gina')).toBe(2), SLOW);
    await place.server.twitter.post('hans', '5');
    await eventually(async () => expect((await shown(first))[0]).toBe('hans: 5'), SLOW);
    expect(chat.texts.filter((text) => text.startsWith('from hans'))).toEqual([]);
    await first.close();
    await eventually(async () => expect(await consumers(place.amqp, 'gina')).toBe(1), SLOW);
    await place.server.twitter.post('hans', '6');
    await eventually(() => expect(chat.texts.at(-1)).toBe('from hans@localhost: 6'), SLOW);
  });

  it('crosses to XMPP and AMQP and back, under the same names', async () => {
    const romeo = await place.rabbit('romeo');
    const juliet = await person('juliet');
    expect(await romeo.ask('*follow juliet@localhost')).toBe('You are now following juliet@localhost.');
    await follow(juliet, 'romeo');
    const channel = await place.amqp.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    for (const name of ['romeo', 'juliet']) await channel.bindQueue(queue, `twitter.user.${name}`, 'say');
    const heard: string[] = [];
    await channel.consume(queue, (message) => message && heard.push(`${message.fields.exchange} ${message.content}`));
    await post(juliet, 'wherefore art thou?');
    await eventually(() => expect(romeo.texts.at(-1)).toBe('from juliet@localhost: wherefore art thou?'), SLOW);
    await romeo.say('here <i>below</i>');
    await eventually(async () => expect((await shown(juliet))[0]).toBe('romeo: here <i>below</i>'), SLOW);
    expect(heard).toEqual(['twitter.user.juliet wherefore art thou?', 'twitter.user.romeo here <i>below</i>']);
    await channel.close();
  });

  it('answers politely what cannot be', async () => {
    await place.server.accounts.signIn('taken', undefined, true);
    const page = await newPage();
    const problem = page.locator('#sign-in-problem');
    for (const [name, answer] of [
      ['A B', /cannot be a name here/],
      ['<img src=x onerror=alert(1)>', /cannot be a name here/],
      ['romeo@montague.net', /cannot be a name here/],
      ['taken', /Somebody is taken already/],
    ] as const) {
      await page.getByLabel('Your name').fill(name);
      await page.keyboard.press('Enter');
      await eventually(async () => expect(await problem.textContent()).toMatch(answer), SLOW);
    }
    await page.getByLabel('Its passcode').fill('guessed');
    await page.keyboard.press('Enter');
    await eventually(async () => expect(await problem.textContent()).toMatch(/not its passcode/), SLOW);
    await signIn(page, 'ivo');

    const toast = page.locator('.toast').last();
    for (const [name, answer] of [
      ['ivo', 'That is you.'],
      ['@ivo@localhost', 'That is you.'],
      ['nobody', 'There is nobody named nobody here.'],
      ['a b', 'cannot be a name'],
      ['x'.repeat(150), 'cannot be a name'],
      ['*', 'There is nobody named * here.'],
      ['<b>', 'There is nobody named <b> here.'],
      [' ', 'Whom do you want to follow?'],
    ] as const) {
      await page.getByLabel('Find or follow somebody').fill(name);
      await page.keyboard.press('Enter');
      await eventually(async () => expect(await toast.textContent()).toContain(answer), SLOW);
    }
    await post(page, '   ');
    await eventually(
      async () => expect(await page.locator('#problem').textContent()).toContain('nothing in that'),
      SLOW,
    );
    await post(page, 'ä'.repeat(501));
    await eventually(
      async () => expect(await page.locator('#problem').textContent()).toContain('501 characters'),
      SLOW,
    );
    await post(page, '🐇'.repeat(500));
    await eventually(async () => expect(await shown(page)).toHaveLength(1), SLOW);
    // However slow this machine is: no time passes for the page, and so nothing is added to what one may say.
    await page.evaluate('performance.now = ((now) => () => now)(performance.now())');
    for (let index = 0; index < 15; index += 1) {
      await post(page, `n${index}`);
      await eventually(async () => expect(await page.locator('#post').isEnabled()).toBe(true), SLOW);
    }
    await eventually(async () => expect(await page.locator('#problem').textContent()).toContain('Not so fast'), SLOW);
    expect(await page.getByLabel('What you want to say').inputValue()).toMatch(/^n\d+$/);
  });

  it('stands a flood, and what makes no sense', async () => {
    const page = await person('karl');
    await place.server.twitter.join('lisa');
    await follow(page, 'lisa');
    const channel = await place.amqp.createConfirmChannel();
    for (let index = 0; index < 5000; index += 1) channel.publish('twitter.user.lisa', 'say', Buffer.from(`n${index}`));
    channel.publish('twitter.user.lisa', 'say', Buffer.from('y'.repeat(100_000)));
    channel.publish('twitter.user.lisa', 'say', Buffer.from([0xff, 0, 0x07]));
    channel.publish('twitter.user.lisa', 'say', Buffer.from('from the end of time'), { timestamp: 1e13 });
    channel.publish('', 'twitter.inbox.karl', Buffer.from('{"odd":'));
    for (const key of ['nonsense', '', 'follow.', 'leave.x', '%'])
      channel.publish('twitter.user.lisa', key, Buffer.from('{'));
    await channel.waitForConfirms();
    await eventually(async () => expect(await place.server.twitter.unread('karl')).toBe(0), {
      ...SLOW,
      timeoutMs: 60_000,
    });
    await eventually(async () => expect((await shown(page))[0]).toBe('an exchange: {"odd":'), SLOW);
    const items = await shown(page);
    expect(items).toHaveLength(200);
    expect(items[1]).toBe('lisa: from the end of time');
    expect(items[3]).toBe(`lisa: ${'y'.repeat(2000)}…`);
    expect(items[4]).toBe('lisa: n4999');
    await post(page, 'still here');
    await eventually(async () => expect((await shown(page))[0]).toBe('karl: still here'), SLOW);
    await channel.close();
  });

  it('says so when the name has been given up over another door, and goes on', async () => {
    const mona = await place.rabbit('mona');
    const page = await newPage();
    await comeBack(page, 'mona');
    await mona.presence({ type: 'unsubscribe', to: place.server.bots[0] });
    await eventually(
      async () => expect(await page.locator('.toast').last().textContent()).toContain('given up this name'),
      SLOW,
    );
    await live(page);
    await post(page, 'here again');
    await showsOnly(page, 'mona: here again');
  });

  it('can be used with the keyboard alone, on a phone too, in the dark, and fits', async () => {
    const page = await newPage({ ...PHONE, colorScheme: 'dark' });
    await page.keyboard.type('nora-with-a-longer-name');
    await page.keyboard.press('Enter');
    await live(page);
    expect(await page.evaluate('document.documentElement.dataset.theme')).toBe('dark');
    expect(await page.evaluate('document.activeElement?.id')).toBe('say');
    await page.keyboard.type('typed');
    await page.keyboard.press('Tab');
    expect(await page.evaluate('document.activeElement?.id')).toBe('post');
    await page.keyboard.press('Enter');
    await showsOnly(page, 'nora-with-a-longer-name: typed');
    // A phone makes the page smaller instead of scrolling it: then it is wider inside.
    const fits = () =>
      page.evaluate(`Math.max(document.documentElement.scrollWidth, innerWidth) <= ${PHONE.viewport?.width}`);
    expect(await fits()).toBe(true);
    for (const tab of ['People', 'Graph', 'Timeline']) {
      await page.getByRole('button', { name: tab, exact: true }).focus();
      await page.keyboard.press('Enter');
      await page.locator(`#panel-${tab.toLowerCase()}`).waitFor({ state: 'visible' });
      expect(await fits()).toBe(true);
    }
    await page.getByRole('button', { name: 'nora-with-a-longer-name' }).focus();
    await page.keyboard.press('Enter');
    await page.getByRole('dialog').waitFor();
    expect(await page.getByRole('dialog').textContent()).toMatch(/nora-with-a-longer-name@localhost/);
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'hidden' });
    for (const button of await page.locator('button:visible').all()) {
      const box = await button.boundingBox();
      expect(box?.height).toBeGreaterThanOrEqual(34);
    }
  });

  it('looks like its pictures', async () => {
    const server = await startServer({ ports: FREE_PORTS });
    const told: string[] = [];
    const demo = playDemo(server, (line) => told.push(line), DEMO_EVERY_MS);
    try {
      await eventually(() => expect(told).toHaveLength(1), SLOW);
      const looks: [string, BrowserContextOptions, string | undefined][] = [
        ['desktop', { viewport: { width: 1280, height: 800 }, colorScheme: 'light' }, undefined],
        ['phone', { ...PHONE, colorScheme: 'light' }, undefined],
        ['phone-graph', { ...PHONE, colorScheme: 'dark' }, 'Graph'],
      ];
      for (const [index, [name, options, tab]] of looks.entries()) {
        const page = await (await newContext(options)).newPage();
        watch(page);
        const me = ['you', 'dora', 'emil', 'fritz'][index] ?? 'you';
        for (const whom of ['anna', 'ben', 'carla', 'juliet', 'romeo']) {
          await server.twitter.join(me);
          await server.twitter.follow(me, whom);
        }
        await page.goto(server.url);
        await page.getByLabel('Your name').fill(me);
        await page.keyboard.press('Enter');
        await live(page);
        await eventually(async () => expect((await shown(page)).length).toBeGreaterThanOrEqual(5), {
          timeoutMs: 40_000,
          everyMs: 100,
        });
        if (tab !== undefined) await page.getByRole('button', { name: tab, exact: true }).click();
        await page.locator('.pulse').first().waitFor({ state: 'attached', timeout: SLOW.timeoutMs });
        // Where nothing is on its way between two states of its looks.
        const picture = await page.screenshot({
          animations: 'disabled',
          ...(PICTURES !== undefined && { path: join(PICTURES, `toy-twitter-${name}.png`) }),
        });
        expect(picture.length).toBeGreaterThan(20_000);
      }
    } finally {
      await demo.stop();
      await server.close();
    }
  });
});

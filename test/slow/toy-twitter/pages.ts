/** Chromium for tests of Toy Twitter's page, and what a person does in it. */
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { Place } from '../../examples/toy-twitter-place.ts';
import { eventually } from '../../support/eventually.ts';

export const SLOW = { timeoutMs: 20_000, everyMs: 50 };
export const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true,
};

export interface Pages {
  /** A browser of its own: nothing in it is known to another. */
  newContext(options?: BrowserContextOptions): Promise<BrowserContext>;
  /** The page, before anybody has signed in. */
  newPage(options?: BrowserContextOptions): Promise<Page>;
  /** From now on it is a failure if the page complains. */
  watch(page: Page): void;
  signIn(page: Page, name: string): Promise<void>;
  /** Signs in as somebody who has logged in with XMPP before, or with that passcode. */
  comeBack(page: Page, name: string, passcode?: string): Promise<void>;
  /** Somebody new, who has signed in. */
  person(name: string, options?: BrowserContextOptions): Promise<Page>;
}

/** Call at the top of a suite that has Chromium. */
export function usePages(place: Place): Pages {
  let browser: Browser;
  const contexts: BrowserContext[] = [];
  /** Whatever the pages complain of. */
  const complaints: string[] = [];

  beforeAll(async () => {
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] });
  });
  afterEach(async () => {
    for (const context of contexts.splice(0)) await context.close();
    expect(complaints.splice(0)).toEqual([]);
  });
  afterAll(async () => {
    await browser?.close();
  });

  const pages: Pages = {
    async newContext(options = {}) {
      const context = await browser.newContext(options);
      contexts.push(context);
      return context;
    },
    async newPage(options) {
      const page = await (await pages.newContext(options)).newPage();
      pages.watch(page);
      await page.goto(place.server.url);
      return page;
    },
    watch(page) {
      page.on('pageerror', (error) => complaints.push(`${error}`));
      page.on('console', (message) => {
        // The browser says by itself when a request is answered 4xx, or a socket cannot be opened: both are asked for here.
        const isAsked = /Failed to load resource|WebSocket connection|net::ERR/.test(message.text());
        if ((message.type() === 'error' || message.type() === 'warning') && !isAsked) complaints.push(message.text());
      });
    },
    async signIn(page, name) {
      await page.getByLabel('Your name').fill(name);
      await page.keyboard.press('Enter');
      await live(page);
    },
    async comeBack(page, name, passcode = place.passcodeOf(name)) {
      await page.getByLabel('Your name').fill(name);
      await page.keyboard.press('Enter');
      await page.getByLabel('Its passcode').fill(passcode);
      await page.keyboard.press('Enter');
      await live(page);
    },
    async person(name, options) {
      const page = await pages.newPage(options);
      await pages.signIn(page, name);
      return page;
    },
  };
  return pages;
}

export function live(page: Page): Promise<unknown> {
  return page.waitForSelector('#link[data-state=live]', { timeout: SLOW.timeoutMs });
}

export async function post(page: Page, text: string): Promise<void> {
  await page.getByLabel('What you want to say').fill(text);
  await page.keyboard.press('Control+Enter');
}

export async function follow(page: Page, name: string): Promise<void> {
  await page.getByRole('button', { name: `Follow ${name}`, exact: true }).click();
  await page.getByRole('button', { name: `Following ${name}`, exact: true }).waitFor();
}

/** What the timeline shows, the latest first. */
export function shown(page: Page): Promise<string[]> {
  return page.locator('#posts > li').evaluateAll((items) =>
    items.map((item) => {
      const [name, text] = [item.querySelector('.name')?.textContent, item.querySelector('p')?.textContent];
      return item.classList.contains('post') ? `${name}: ${text}` : (item.querySelector('span')?.textContent ?? '');
    }),
  );
}

export async function showsOnly(page: Page, ...texts: string[]): Promise<void> {
  await eventually(async () => expect(await shown(page)).toEqual(texts), SLOW);
}

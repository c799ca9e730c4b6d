/** One who makes, changes and deletes users, rights, virtual hosts and policies in the broker that is going to be killed. */
import type { Copy } from './copy.ts';
import type { Ledger } from './ledger.ts';
import type { Numbers } from './publishers.ts';
import type { Random } from './random.ts';
import type { Op } from './timeline.ts';
import type { Orders } from './victim.ts';

/** Kinds in the ledger. Ids are `name@version`: to change something is to end one version and to begin the next. */
export const USER_KIND = '(user)';
export const VHOST_KIND = '(virtual host)';
/** Names are `virtual host/user`. */
export const PERMISSION_KIND = '(permission)';
/** Names are `virtual host/name`. */
export const POLICY_KIND = '(policy)';
export const ADMINISTERED_KINDS: readonly string[] = [USER_KIND, VHOST_KIND, PERMISSION_KIND, POLICY_KIND];

/** Live things of a kind above which one is deleted. */
const LIVE_MAX = 6;

type Ask = (op: Op) => { readonly copies: readonly Copy[]; readonly answer: Promise<unknown> };

class Administrator {
  readonly #ledger: Ledger;
  readonly #random: Random;
  readonly #numbers: Numbers;
  readonly #orders: Orders;
  readonly #step: (what: string, ask: Ask) => Promise<void>;

  constructor(ledger: Ledger, random: Random, numbers: Numbers, orders: Orders, name: string) {
    this.#ledger = ledger;
    this.#random = random;
    this.#numbers = numbers;
    this.#orders = orders;
    const timeline = ledger.timeline(name);
    this.#step = async (what, ask) => {
      const op = timeline.ask(what);
      const { copies, answer } = ask(op);
      await answer;
      ledger.answered(op, copies);
    };
  }

  /** Makes or changes something: the version before ends with it. */
  #put(kind: string, name: string, give: (version: number) => Promise<unknown>): Promise<void> {
    const version = this.#numbers.next(kind);
    return this.#step(`${kind} ${name} version ${version}`, (op) => ({
      copies: [
        ...this.#ledger.removed(
          op,
          kind,
          this.#idsOf(kind, (id) => id.startsWith(`${name}@`)),
        ),
        this.#ledger.expect(kind, `${name}@${version}`, { admission: op }),
      ],
      answer: give(version),
    }));
  }

  /** Deletes something with all that goes with it. */
  #delete(what: string, gone: Readonly<Record<string, (id: string) => boolean>>, give: () => Promise<unknown>) {
    return this.#step(`delete of ${what}`, (op) => ({
      copies: Object.entries(gone).flatMap(([kind, is]) => this.#ledger.removed(op, kind, this.#idsOf(kind, is))),
      answer: give(),
    }));
  }

  #idsOf(kind: string, is: (id: string) => boolean): string[] {
    return this.#ledger.live(kind).filter(is);
  }

  /** A name of the kind that is live, or a new one. */
  #name(kind: string, prefix: string): { name: string; isNew: boolean; isEnough: boolean } {
    const live = this.#ledger.live(kind);
    const isNew = live.length === 0 || this.#random.chance(0.4);
    const name = isNew ? `${prefix}${this.#numbers.next(prefix)}` : nameOf(this.#random.pick(live));
    return { name, isNew, isEnough: live.length > LIVE_MAX };
  }

  async once(): Promise<void> {
    const choice = this.#random.next();
    if (choice < 0.3) await this.#user();
    else if (choice < 0.5) await this.#vhost();
    else if (choice < 0.75) await this.#permission();
    else await this.#policy();
  }

  async #user(): Promise<void> {
    const { name, isNew, isEnough } = this.#name(USER_KIND, 'user');
    if (!isNew && (isEnough || this.#random.chance(0.2))) {
      const gone = {
        [USER_KIND]: (id: string) => nameOf(id) === name,
        [PERMISSION_KIND]: (id: string) => nameOf(id).endsWith(`/${name}`),
      };
      await this.#delete(name, gone, () => this.#orders.give('deleteUser', name));
    } else {
      await this.#put(USER_KIND, name, (version) =>
        this.#orders.give('putUser', { name, password: 'secret', tags: [String(version)] }),
      );
    }
  }

  async #vhost(): Promise<void> {
    const { name, isNew, isEnough } = this.#name(VHOST_KIND, 'vhost');
    if (!isNew && (isEnough || this.#random.chance(0.2))) {
      const isOfIt = (id: string): boolean => id.startsWith(`${name}/`);
      const gone = {
        [VHOST_KIND]: (id: string) => nameOf(id) === name,
        [PERMISSION_KIND]: isOfIt,
        [POLICY_KIND]: isOfIt,
      };
      await this.#delete(name, gone, () => this.#orders.give('deleteVhost', name));
    } else {
      await this.#put(VHOST_KIND, name, (version) =>
        this.#orders.give('putVhost', { name, description: String(version) }),
      );
    }
  }

  async #permission(): Promise<void> {
    const [users, vhosts] = [this.#ledger.live(USER_KIND), this.#ledger.live(VHOST_KIND)];
    if (users.length === 0 || vhosts.length === 0) return;
    const user = nameOf(this.#random.pick(users));
    const vhost = nameOf(this.#random.pick(vhosts));
    const name = `${vhost}/${user}`;
    if (this.#idsOf(PERMISSION_KIND, (id) => nameOf(id) === name).length > 0 && this.#random.chance(0.3)) {
      const gone = { [PERMISSION_KIND]: (id: string) => nameOf(id) === name };
      await this.#delete(`permission ${name}`, gone, () => this.#orders.give('clearPermission', vhost, user));
    } else {
      await this.#put(PERMISSION_KIND, name, (version) =>
        this.#orders.give('setPermission', { vhost, user, configure: `^${version}$`, write: '', read: '.*' }),
      );
    }
  }

  async #policy(): Promise<void> {
    const vhosts = this.#ledger.live(VHOST_KIND);
    if (vhosts.length === 0) return;
    const vhost = nameOf(this.#random.pick(vhosts));
    const policy = `policy${this.#random.below(3)}`;
    const name = `${vhost}/${policy}`;
    if (this.#idsOf(POLICY_KIND, (id) => nameOf(id) === name).length > 0 && this.#random.chance(0.3)) {
      const gone = { [POLICY_KIND]: (id: string) => nameOf(id) === name };
      await this.#delete(`policy ${name}`, gone, () => this.#orders.give('clearPolicy', vhost, policy));
    } else {
      await this.#put(POLICY_KIND, name, (version) =>
        this.#orders.give('setPolicy', {
          vhost,
          name: policy,
          pattern: '^x',
          applyTo: 'queues',
          priority: 1,
          definition: { 'max-length': version },
        }),
      );
    }
  }
}

function nameOf(id: string): string {
  return id.slice(0, id.indexOf('@'));
}

export interface AdministratorOptions {
  readonly ledger: Ledger;
  readonly random: Random;
  readonly numbers: Numbers;
  readonly orders: Orders;
  /** For the timeline. */
  readonly name: string;
  /** Resolves when the broker is dead. */
  readonly dead: Promise<unknown>;
}

/** Changes something all the time until the broker is dead. */
export async function administer({ ledger, random, numbers, orders, name, dead }: AdministratorOptions): Promise<void> {
  const administrator = new Administrator(ledger, random, numbers, orders, name);
  let isDead = false;
  void dead.then(() => {
    isDead = true;
  });
  while (!isDead) await Promise.race([administrator.once(), dead]);
}

/** What there is of each kind, as ids of the ledger; without what every new broker has. */
export async function administered(orders: Orders): Promise<Map<string, string[]>> {
  const users = await orders.give('users');
  const vhosts = await orders.give('vhosts');
  const permissions = await orders.give('permissions');
  const policies = await orders.give('policies');
  return new Map([
    [USER_KIND, users.filter(({ name }) => name !== 'guest').map(({ name, tags }) => `${name}@${tags}`)],
    [VHOST_KIND, vhosts.filter(({ name }) => name !== '/').map(({ name, description }) => `${name}@${description}`)],
    [
      PERMISSION_KIND,
      permissions
        .filter(({ vhost }) => vhost !== '/')
        .map(({ vhost, user, configure }) => `${vhost}/${user}@${configure.slice(1, -1)}`),
    ],
    [
      POLICY_KIND,
      policies.map(({ vhost, name, definition }) => `${vhost}/${name}@${Number(definition['max-length'])}`),
    ],
  ]);
}

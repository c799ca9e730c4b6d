/**
 * The broker that contract tests talk to over real sockets: a Warren started for the test file, or, when
 * `AMQP_TEST_URL` names one (`amqp://guest:guest@127.0.0.1:5672/vhost`), any other. With
 * `AMQP_TEST_RABBITMQCTL="rabbitmqctl -n rabbit@localhost"` beside it, a RabbitMQ is administered through that command
 * and each test file gets a virtual host of its own; without, tests that administer are skipped.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, it } from 'vitest';
import type { Broker } from '../../broker/port.ts';
import { type EmbeddedOptions, startEmbedded } from './embedded-warren.ts';
import { RabbitmqctlAdministration, type TestAdministration } from './rabbitmqctl.ts';
import { type HandshakeOptions, RawConnection } from './raw-amqp.ts';
import type { RawChannel } from './raw-channel.ts';

/** How long a client of amqplib may take to say goodbye after a test. */
const GOODBYE_MS = 1000;

const EXTERNAL_URL = process.env.AMQP_TEST_URL;
const RABBITMQCTL = process.env.AMQP_TEST_RABBITMQCTL;

/** True when the broker under test is Warren itself. */
export const isWarren = EXTERNAL_URL === undefined;

/** `it` for what Warren does and RabbitMQ 3.10 does not; the reason is shown where the test is skipped. */
export function onlyWarren(reason: string): (name: string, test: () => Promise<void>) => void {
  return (name, test) => {
    if (isWarren) it(name, test);
    else it.skip(`${name} [only Warren: ${reason}]`, test);
  };
}

/** `it` for tests that change users, policies or limits. */
export function itAdministered(name: string, test: () => Promise<void>): void {
  if (isWarren || RABBITMQCTL !== undefined) it(name, test);
  else it.skip(`${name} [needs AMQP_TEST_RABBITMQCTL]`, test);
}

export interface BrokerUnderTest {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  /** `in vhost '/'`, as reply texts say it. */
  readonly here: string;
  readonly administration: TestAdministration;
  /** Only for tests that are `onlyWarren`. */
  readonly embedded: Broker;
  /** A name that no other test uses. */
  fresh(name: string): string;
  /** A TCP connection on which nothing has been said. Dropped after the test, as are all below. */
  dial(): Promise<RawConnection>;
  /** A connection after its handshake. */
  connect(options?: HandshakeOptions): Promise<RawConnection>;
  /** A connection of its own with one open channel. */
  channel(options?: HandshakeOptions): Promise<RawChannel>;
  /** A connection of amqplib. */
  amqplib(options?: { readonly username?: string; readonly password?: string }): Promise<ChannelModel>;
}

interface Target {
  readonly host: string;
  readonly port: number;
  readonly vhost: string;
  readonly administration: TestAdministration | undefined;
  readonly embedded: Broker | undefined;
  close(): Promise<void>;
}

/** Starts (or finds) the broker for the tests of this file and ends it after them. Call once, at the top of the file. */
export function useBroker(options: EmbeddedOptions = {}): BrokerUnderTest {
  let target: Target | undefined;
  let names = 0;
  const opened: (() => unknown)[] = [];
  beforeAll(async () => {
    target = EXTERNAL_URL === undefined ? await startEmbedded(options) : await findExternal(new URL(EXTERNAL_URL));
  });
  afterEach(async () => {
    await Promise.allSettled(opened.splice(0).map((close) => close()));
  });
  afterAll(async () => {
    await target?.close();
  });
  const running = (): Target => must(target, 'the broker is not started yet');

  const broker: BrokerUnderTest = {
    get host() {
      return running().host;
    },
    get port() {
      return running().port;
    },
    get vhost() {
      return running().vhost;
    },
    get here() {
      return `in vhost '${running().vhost}'`;
    },
    get administration() {
      return must(running().administration, 'set AMQP_TEST_RABBITMQCTL to administer the broker under test');
    },
    get embedded() {
      return must(running().embedded, 'this test is for an embedded Warren only');
    },
    fresh(name) {
      names += 1;
      return `${name}-${names}`;
    },
    async dial() {
      const connection = await RawConnection.connect(running());
      opened.push(() => connection.destroy());
      return connection;
    },
    async connect(handshake = {}) {
      const connection = await broker.dial();
      await connection.handshake({ vhost: running().vhost, ...handshake });
      return connection;
    },
    async channel(handshake) {
      return (await broker.connect(handshake)).openChannel();
    },
    async amqplib({ username = 'guest', password = 'guest' } = {}) {
      const { host, port, vhost } = running();
      const model = await connect({ protocol: 'amqp', hostname: host, port, username, password, vhost });
      model.on('error', () => {});
      // a goodbye that is not answered must not hold up the other tests
      opened.push(() => Promise.race([model.close(), delay(GOODBYE_MS, undefined, { ref: false })]));
      return model;
    },
  };
  return broker;
}

async function findExternal(url: URL): Promise<Target> {
  const address = { host: url.hostname, port: Number(url.port || 5672) };
  if (RABBITMQCTL === undefined) {
    const vhost = decodeURIComponent(url.pathname.slice(1)) || '/';
    return { ...address, vhost, administration: undefined, embedded: undefined, close: async () => {} };
  }
  const vhost = `contract-${randomBytes(6).toString('hex')}`;
  const administration = new RabbitmqctlAdministration(RABBITMQCTL.split(' '));
  await administration.putVhost({ name: vhost });
  await administration.setPermission({ vhost, user: 'guest', configure: '.*', write: '.*', read: '.*' });
  return {
    ...address,
    vhost,
    administration,
    embedded: undefined,
    close: () => administration.deleteVhost(vhost),
  };
}

function must<T>(value: T | undefined, otherwise: string): T {
  if (value === undefined) throw new Error(otherwise);
  return value;
}

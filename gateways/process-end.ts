/**
 * How the process ends: politely when it is told to, at once when it is told twice, and with the reason in the log when
 * something broke that should not. [B20]
 */
import type { Broker } from '../broker/port.ts';
import type { Gateway } from './gateway.ts';
import type { ProcessLog } from './pino-log.ts';
import { TlsError, type TlsIdentity } from './tls.ts';

/** A terminal and npm both hand on the same Ctrl-C; a second signal within this time is the first one's echo. */
export const SIGNAL_ECHO_MS = 500;

const EXIT_TOLD = 0;
const EXIT_BROKEN = 1;

interface Ending {
  readonly broker: Broker;
  readonly gateways: readonly Gateway[];
  /** How long consumers have to ack what they hold. */
  readonly graceMs: number;
  readonly log: ProcessLog;
}

/**
 * From now on SIGTERM and SIGINT end the process: no new connections, consumers cancelled, acks awaited for `graceMs`,
 * connections closed with 320, exit code 0, or 1 when not everything could be written. Told again, it exits at once
 * with 1.
 */
export function endOnSignal(ending: Ending): void {
  const { log } = ending;
  let toldAt: number | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (toldAt === undefined) {
      toldAt = performance.now();
      log.info({ signal }, 'shutting down; a second signal ends it at once');
      void end(ending);
    } else if (performance.now() - toldAt > SIGNAL_ECHO_MS) {
      log.warn({ signal }, 'ended at once: what was not acked is lost or delivered again');
      void exit(log, EXIT_BROKEN);
    }
  };
  process.on('SIGTERM', onSignal).on('SIGINT', onSignal);
}

/** How often a process started by npm looks whether the shell between npm and itself is still there. */
const LAUNCHER_CHECK_MS = 250;

/**
 * Started by `npm start`, the process takes the end of npm's shell for a SIGTERM: npm hands signals to that shell, which
 * dies of them without handing them on.
 */
export function endWithLauncher(): void {
  if (process.env.npm_lifecycle_event === undefined) return;
  const launcher = process.ppid;
  const timer = setInterval(() => {
    if (process.ppid === launcher) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, LAUNCHER_CHECK_MS).unref();
}

async function end({ broker, gateways, graceMs, log }: Ending): Promise<void> {
  stayAlive();
  for (const gateway of gateways) gateway.stopAccepting();
  await broker.drain(graceMs);
  const code = await close(broker, log);
  await Promise.all(gateways.map((gateway) => gateway.close()));
  log.info({}, 'ended');
  await exit(log, code);
}

/**
 * The process ends when it is told to and not before: timers of the broker, such as those of a store that tries again to
 * write, do not keep it alive.
 */
function stayAlive(): void {
  setInterval(() => {}, 2 ** 30);
}

/** Answers the exit code: 1 when not everything could be written to the data folder. */
async function close(broker: Broker, log: ProcessLog): Promise<number> {
  try {
    await broker.close();
    return EXIT_TOLD;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    log.error({}, `the last changes could not be written to the data folder: ${reason}. What was confirmed is safe`);
    return EXIT_BROKEN;
  }
}

async function exit(log: ProcessLog, code: number): Promise<never> {
  await log.close();
  process.exit(code);
}

/** From now on SIGHUP reads the certificate again; with a bad one the log says so and the old one stays. */
export function reloadOnSignal(tls: TlsIdentity | undefined, log: ProcessLog): void {
  process.on('SIGHUP', () => {
    if (!tls) {
      log.info({}, 'SIGHUP: there is no TLS certificate to read again');
      return;
    }
    tls.reload().then(
      () => log.info({ validTo: tls.certificate.validTo }, 'TLS certificate read again'),
      (error: unknown) => {
        if (!(error instanceof TlsError)) throw error;
        log.error({}, `the old TLS certificate stays: ${error.message}`);
      },
    );
  });
}

/** From now on a fault that nobody caught is logged with its stack and ends the process with 1. */
export function endOnFault(log: ProcessLog): void {
  process.on('uncaughtException', (error) => {
    log.error({ err: error }, 'a fault in the broker; it ends here rather than go on wrong');
    void exit(log, EXIT_BROKEN);
  });
  // Whoever started us may have stopped reading what we print; that is no reason to end.
  process.stdout.on('error', () => {});
}

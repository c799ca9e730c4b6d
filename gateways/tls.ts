/**
 * The certificate with which listeners prove who they are, and the authorities by which clients do. Read from PEM files
 * at the start and again on request (SIGHUP); a bad new one changes nothing. One certificate serves every name that a
 * client may ask for (SNI).
 */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createSecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls';

interface TlsFiles {
  /** PEM: the server's certificate, then the intermediate ones. */
  readonly certificateFile: string;
  /** PEM, not encrypted. */
  readonly keyFile: string;
  /** PEM: the authorities that client certificates must come from. */
  readonly caFile?: string;
}

export interface TlsOptions extends TlsFiles {
  /** Whether clients are asked for a certificate, and refused without a good one. */
  readonly verifyClient: 'none' | 'optional' | 'required';
  /** What of a client's certificate is its name: the one common name, or the whole subject [RFC 4514]. */
  readonly certificateName: 'common-name' | 'subject';
  readonly minVersion: 'TLSv1.2' | 'TLSv1.3';
}

/** A certificate, key or authority that cannot be used; the message names the file and what is wrong with it. */
export class TlsError extends Error {
  override readonly name = 'TlsError';
}

/** What listeners need to speak TLS. Made by `loadTls`; many listeners may share one. */
export class TlsIdentity {
  readonly options: TlsOptions;
  #context: SecureContextOptions;
  #certificate: X509Certificate;
  readonly #onReload = new Set<(context: SecureContextOptions) => void>();

  constructor(options: TlsOptions, loaded: LoadedFiles) {
    this.options = options;
    this.#context = loaded.context;
    this.#certificate = loaded.certificate;
  }

  /** Certificate, key and authorities now in force. */
  get context(): SecureContextOptions {
    return this.#context;
  }

  /** The server's own certificate now in force. */
  get certificate(): X509Certificate {
    return this.#certificate;
  }

  /** Calls back with every context that is loaded from now on; the returned function ends that. */
  onReload(callback: (context: SecureContextOptions) => void): () => void {
    this.#onReload.add(callback);
    return () => this.#onReload.delete(callback);
  }

  /**
   * Reads the files again and gives them to the listeners for their next handshakes; open connections stay. Rejects
   * with TlsError, changing nothing, when they cannot be used.
   */
  async reload(): Promise<void> {
    const loaded = await loadFiles(this.options);
    this.#context = loaded.context;
    this.#certificate = loaded.certificate;
    for (const callback of this.#onReload) callback(loaded.context);
  }

  /** The name that a client has proved with its certificate; undefined when it has none, or none that was verified. */
  nameOf(socket: TLSSocket): string | undefined {
    if (this.options.verifyClient === 'none' || !socket.authorized) return undefined;
    const certificate = socket.getPeerX509Certificate();
    return certificate && certificateName(certificate, this.options.certificateName);
  }
}

/** Reads certificate, key and authorities. Rejects with TlsError. */
export async function loadTls(options: TlsOptions): Promise<TlsIdentity> {
  return new TlsIdentity(options, await loadFiles(options));
}

/**
 * The name in a certificate. `common-name`: undefined unless there is exactly one. `subject`: the most specific part
 * first, e.g. `CN=alice,O=Example`, which is what RabbitMQ's `distinguished_name` gives.
 */
export function certificateName(
  certificate: X509Certificate,
  which: TlsOptions['certificateName'],
): string | undefined {
  const parts = certificate.subject.split('\n').filter((part) => part !== '');
  if (which === 'subject') return parts.length === 0 ? undefined : parts.reverse().join(',');
  const names = parts.filter((part) => part.startsWith('CN='));
  return names.length === 1 ? names[0]?.slice('CN='.length) : undefined;
}

interface LoadedFiles {
  readonly context: SecureContextOptions;
  readonly certificate: X509Certificate;
}

async function loadFiles(options: TlsOptions): Promise<LoadedFiles> {
  const { certificateFile, keyFile, caFile } = options;
  const [cert, key, ca] = await Promise.all([
    readPem('certificate', certificateFile),
    readPem('key', keyFile),
    caFile === undefined ? undefined : readPem('certificate authority', caFile),
  ]);
  const base = { cert, minVersion: options.minVersion };
  usable(`the TLS certificate in ${certificateFile}`, () => createSecureContext(base));
  if (ca) usable(`the TLS certificate authority in ${caFile}`, () => new X509Certificate(ca));
  usable(`the TLS key in ${keyFile}`, () => createSecureContext({ key }));
  const context: SecureContextOptions = { ...base, key, ...(ca && { ca }) };
  usable(`the TLS key in ${keyFile} with the certificate in ${certificateFile}`, () => createSecureContext(context));
  return { context, certificate: new X509Certificate(cert) };
}

async function readPem(what: string, file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    throw new TlsError(`cannot read the TLS ${what} file ${file}: ${reasonOf(error)}`);
  }
}

function usable(what: string, attempt: () => unknown): void {
  try {
    attempt();
  } catch (error) {
    throw new TlsError(`${what} cannot be used: ${reasonOf(error)}`);
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

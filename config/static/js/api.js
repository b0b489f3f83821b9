/** Calls to our own API, with the browser's session. An ended session leads to the sign-in page. */

export class ApiError extends Error {
  constructor(status, code, message, detail) {
    super(message);
    this.status = status;
    this.code = code;
    this.detail = detail;
  }

  /** No answer arrived, or one that proves nothing: the request may have been carried out. */
  get isUnclear() {
    return this.status === 0 || this.status >= 500;
  }
}

let leaving = false;

export function toSignIn() {
  if (leaving) return;
  leaving = true;
  const here = location.pathname + location.search;
  location.assign(`${document.body.dataset.signin}?expired=1&next=${encodeURIComponent(here)}`);
}

export async function call(method, path, { body, headers = {}, signal, timeout = 10000 } = {}) {
  const limit = AbortSignal.timeout(timeout);
  const options = {
    method,
    credentials: "same-origin",
    headers: { Accept: "application/json", ...headers },
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  };
  if (method !== "GET") {
    options.headers["X-CSRFToken"] = document.body.dataset.csrf;
    options.headers["Content-Type"] = "application/json";
    options.body = JSON.stringify(body ?? {});
  }
  let response;
  try {
    response = await fetch(`/api/v1${path}`, options);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "no_answer", "The platform did not answer.", {});
  }
  const text = await response.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    throw new ApiError(response.ok ? 502 : response.status, "unreadable", "The answer could not be read.", {});
  }
  if (response.ok) return data;
  if (response.status === 401) toSignIn();
  const error = data?.error ?? {};
  throw new ApiError(response.status, error.code ?? "error", sentence(error), error.detail ?? {});
}

/** The message, with the first named field of a validation error. */
function sentence(error) {
  const fields = error.detail && typeof error.detail === "object" ? Object.values(error.detail) : [];
  if (error.code === "validation_error" && fields.length) {
    const first = fields.flat()[0];
    if (typeof first === "string") return first;
  }
  return error.message ?? "That did not work.";
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, body, options = {}) => call("POST", path, { ...options, body });
export const patch = (path, body, options = {}) => call("PATCH", path, { ...options, body });
export const symbolPath = (symbol) => encodeURIComponent(symbol).replaceAll("%3A", ":");

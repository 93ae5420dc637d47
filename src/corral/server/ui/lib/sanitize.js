// The one place where text becomes elements: DOMPurify, which the page's policy (Trusted Types) knows by name.

import DOMPurify from "../vendor/dompurify/dist/purify.es.mjs";

const TAGS = [
  ..."p br em strong s del h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code a hr span".split(" "),
  ..."table thead tbody tr th td".split(" "),
];
const OPTIONS = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["href", "class", "start"],
  ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (element) => {
  if (element.tagName !== "A") return;
  element.target = "_blank";
  element.rel = "noopener noreferrer nofollow";
  element.title = element.getAttribute("href") ?? "";
});

/** A fragment of what is left of `text` when all but plain text elements and plain links are gone. */
export function sanitized(text) {
  return DOMPurify.sanitize(text, OPTIONS);
}

// Looks for a QR code beside the page, which stays quick meanwhile: an ImageData comes in, its text or null goes out.

import { find } from "./qr-find.js";

onmessage = ({ data }) => postMessage(find(data));

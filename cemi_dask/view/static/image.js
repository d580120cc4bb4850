// The mosaic and its labels in deep zoom, by OpenSeadragon.

const OSD = globalThis.OpenSeadragon;

// Tiles end at whole screen pixels, where their neighbours begin: no seam shows, and at 1 : 1
// each pixel is one of the screen's.
function onWholePixels({ context, tile }) {
  const [scaleX, shiftX] = snapped(tile.position.x, tile.size.x);
  const [scaleY, shiftY] = snapped(tile.position.y, tile.size.y);
  context.transform(scaleX, 0, 0, scaleY, shiftX, shiftY);
}

// Scale and shift that move a side from `from`, `size` CSS px long, onto whole screen pixels.
function snapped(from, size) {
  const ratio = OSD.pixelDensityRatio;
  const low = Math.round(from * ratio), high = Math.round((from + size) * ratio);
  const scale = Math.max(1, high - low) / (size * ratio);
  return [scale, low - from * ratio * scale];
}

export class ImageView {
  constructor(element, navigator, info) {
    this.info = info;
    this.window = { ...info.window };
    this.labels = new Map(); // name -> { item, opacity }
    this.listeners = [];
    this.viewer = OSD({
      element,
      drawer: "canvas",
      tileSources: this._source(this._mosaicAddress(this.window), info.levels),
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: navigator,
      navigatorAutoFade: false,
      navigatorDisplayRegionColor: "#f5d76e",
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
      minZoomImageRatio: 0.6,
      maxZoomPixelRatio: 16,
      smoothTileEdgesMinZoom: Infinity, // it would blur the pixels when zoomed in
      visibilityRatio: 0.3,
      animationTime: 0.5,
      springStiffness: 9,
      blendTime: 0.08,
      imageLoaderLimit: 8,
      maxImageCacheCount: 300,
      tileRetryMax: 3,
      tileRetryDelay: 1000,
      preserveImageSizeOnResize: true,
    });
    this.viewer.canvas.setAttribute("tabindex", "0");
    this.viewer.canvas.setAttribute("aria-label", "Mosaic: arrows move, plus and minus zoom");
    this.ready = new Promise((resolve) => this.viewer.addOnceHandler("open", resolve));
    this.viewer.addHandler("canvas-key", (event) => {
      // Turning and flipping would put the scale bar and the profiles in the wrong.
      event.preventDefaultAction = /^[rRfF0]$/.test(event.originalEvent.key);
    });
    this.viewer.addHandler("tile-drawing", onWholePixels);
    for (const name of ["update-viewport", "resize", "open"]) {
      this.viewer.addHandler(name, () => this._changed());
    }
  }

  _mosaicAddress({ low, high }) {
    return (level, row, col) =>
      `tile/mosaic/${level}/${row}/${col}.png?low=${low}&high=${high}&v=${this.info.stamp}`;
  }

  _source(address, levels) {
    const { width, height, tile_px: tileSize } = this.info;
    return {
      width,
      height,
      tileSize,
      // With 0 OpenSeadragon would draw every tile one screen pixel too large.
      tileOverlap: 1e-7,
      hasTransparency: () => false, // or it clears the edges of neighbours, tile by tile
      minLevel: 0,
      maxLevel: levels - 1,
      getTileUrl: (level, col, row) => address(levels - 1 - level, row, col),
    };
  }

  // The navigator keeps its own idea of its size, which a changed layout makes wrong.
  resized() {
    const { navigator, viewport } = this.viewer;
    if (!navigator || !navigator.viewport) return;
    navigator.updateSize();
    navigator.viewport.goHome(true);
    navigator.update(viewport);
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  _changed() {
    const zoomedIn = this.scale() > 1.5;
    if (zoomedIn !== this.sharp) {
      this.sharp = zoomedIn; // single pixels are to be seen as what they are
      // Later: while the drawer draws, it saves and restores what is set here.
      setTimeout(() => {
        this.viewer.drawer.setImageSmoothingEnabled(!zoomedIn);
        this.viewer.forceRedraw();
      });
    }
    for (const listener of this.listeners) listener();
  }

  get item() {
    return this.viewer.world.getItemAt(0);
  }

  // Screen px per px of the mosaic.
  scale() {
    if (!this.item) return 1;
    return this.item.viewportToImageZoom(this.viewer.viewport.getZoom(true));
  }

  // Screen place of the mosaic's upper left corner, and screen px per px.
  transform() {
    const scale = this.scale();
    if (!this.item) return { x: 0, y: 0, scale };
    const corner = this.viewer.viewport.pixelFromPoint(
      this.item.imageToViewportCoordinates(0, 0, true), true);
    return { x: corner.x, y: corner.y, scale };
  }

  size() {
    const { x, y } = this.viewer.viewport.getContainerSize();
    return { width: x, height: y };
  }

  // The part of the mosaic that is seen, px of level 0; it may reach beyond the mosaic.
  visible() {
    const { x, y, scale } = this.transform();
    const { width, height } = this.size();
    return { x0: -x / scale, y0: -y / scale, x1: (width - x) / scale, y1: (height - y) / scale };
  }

  place(screen) {
    const { x, y, scale } = this.transform();
    return { x: (screen.x - x) / scale, y: (screen.y - y) / scale };
  }

  // Show the place (px) in the middle, `scale` screen px per px.
  goTo(x, y, scale, immediately = false) {
    const viewport = this.viewer.viewport;
    viewport.panTo(this.item.imageToViewportCoordinates(x, y), immediately);
    viewport.zoomTo(this.item.imageToViewportZoom(scale), null, immediately);
    viewport.applyConstraints(immediately);
  }

  centre() {
    const box = this.visible();
    return { x: (box.x0 + box.x1) / 2, y: (box.y0 + box.y1) / 2 };
  }

  fit() {
    this.viewer.viewport.goHome();
  }

  fullSize() {
    const ratio = globalThis.devicePixelRatio || 1;
    const { x, y } = this.centre();
    const seen = this.size();
    // Onto the screen's own pixels: half a pixel aside, every one would be a mean of four.
    const onto = (middle, length, screen) => {
      const half = (screen * ratio) / 2;
      return Math.round(Math.min(length, Math.max(0, middle)) - half) + half;
    };
    this.goTo(onto(x, this.info.width, seen.width), onto(y, this.info.height, seen.height), 1 / ratio);
  }

  // Other grey levels: the new picture is laid over the old one, which goes when all is there.
  setWindow(window) {
    this.window = { ...window };
    const token = (this.windowToken = Symbol("window"));
    const old = this.item;
    this.viewer.addTiledImage({
      tileSource: this._source(this._mosaicAddress(this.window), this.info.levels),
      index: this.viewer.world.getIndexOfItem(old) + 1,
      success: ({ item }) => {
        const swap = () => {
          if (token !== this.windowToken) this.viewer.world.removeItem(item);
          else if (this.viewer.world.getIndexOfItem(old) >= 0) this.viewer.world.removeItem(old);
        };
        if (token !== this.windowToken || item.getFullyLoaded()) swap();
        else item.addOnceHandler("fully-loaded-change", swap);
      },
    });
  }

  // A label over the mosaic; opacity 0 takes it away.
  setLabel(name, opacity) {
    const known = this.labels.get(name);
    if (known) {
      known.opacity = opacity;
      if (known.item) known.item.setOpacity(opacity);
      return;
    }
    if (!(opacity > 0)) return;
    const state = { item: null, opacity };
    this.labels.set(name, state);
    const { levels } = this.info.labels.find((label) => label.name === name);
    const address = (level, row, col) =>
      `tile/label/${name}/${level}/${row}/${col}.png?v=${this.info.stamp}`;
    this.viewer.addTiledImage({
      tileSource: this._source(address, levels),
      opacity,
      success: ({ item }) => {
        state.item = item;
        item.setOpacity(state.opacity);
      },
    });
  }

  // True once every tile of the present view is drawn.
  loaded() {
    const world = this.viewer.world;
    for (let i = 0; i < world.getItemCount(); i++) {
      const item = world.getItemAt(i);
      if (item.getOpacity() > 0 && !item.getFullyLoaded()) return false;
    }
    return world.getItemCount() > 0;
  }
}

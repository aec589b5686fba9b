# SPDX-License-Identifier: Apache-2.0
"""Cheap rendering of LIBERO scenes: visual meshes decimated in the compiled model, no shadows, one camera.

LIBERO's visual meshes have several hundred thousand faces, which costs far more than the pixels of a small image.
"""

import mujoco
import numpy as np

# Vertices closer than this share one position [m]: about one pixel of a 128x128 image of the workspace.
CLUSTER_SIZE = 0.006


def decimate_visual_meshes(model: mujoco.MjModel, cell: float = CLUSTER_SIZE) -> int:
    """Cluster the vertices of every purely visual mesh on a grid, in place; returns the number of faces left.

    Must run before a render context is made, which uploads the meshes. Meshes that collide are left alone.
    cell: edge of the grid [m].
    """
    colliding = {
        int(model.geom_dataid[geom])
        for geom in range(model.ngeom)
        if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_MESH and (model.geom_contype[geom] or model.geom_conaffinity[geom])
    }
    for mesh in range(model.nmesh):
        if mesh not in colliding:
            _decimate_mesh(model, mesh, cell)
    return int(model.mesh_facenum.sum())


def _decimate_mesh(model: mujoco.MjModel, mesh: int, cell: float) -> None:
    """Replace each vertex by the first one of its grid cell and drop the faces that collapse (vertex clustering)."""
    first_vertex, vertices = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    positions = model.mesh_vert[first_vertex : first_vertex + vertices]
    _, representative, cell_of = np.unique(
        np.floor(positions / cell).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    first_face, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    faces = model.mesh_face[first_face : first_face + count].copy()
    clustered = representative[cell_of.reshape(-1)][faces]
    kept = (clustered[:, 0] != clustered[:, 1]) & (clustered[:, 1] != clustered[:, 2]) & (clustered[:, 0] != clustered[:, 2])
    kept_count = int(kept.sum())
    if kept_count < 12:  # smaller than a box: the grid is too coarse for this mesh
        return
    segment = slice(first_face, first_face + kept_count)
    model.mesh_face[segment] = clustered[kept]
    for per_corner in (model.mesh_facenormal, model.mesh_facetexcoord):
        per_corner[segment] = per_corner[first_face : first_face + count][kept]
    model.mesh_facenum[mesh] = kept_count


class SceneCamera:
    """One fixed camera over a scene; owns a GL context, so use it from the thread that made it.

    model: compiled, already decimated model. lookat: the point that the camera looks at (3,) [m], world.
    distance [m], azimuth and elevation [deg] of the viewing direction, fov: vertical field of view [deg].
    size: height and width of the square image [pixels].
    """

    def __init__(
        self, model: mujoco.MjModel, lookat: np.ndarray, distance: float, azimuth: float, elevation: float, fov: float, size: int
    ):
        self.size = size
        self.fov = fov
        self._model = model
        model.vis.global_.fovy = fov
        model.vis.quality.offsamples = 0
        model.vis.quality.shadowsize = 0
        model.vis.map.znear = 0.01
        model.mat_reflectance[:] = 0.0
        self._renderer = mujoco.Renderer(model, size, size)
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        self._renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.lookat[:] = lookat
        self._camera.distance, self._camera.azimuth, self._camera.elevation = distance, azimuth, elevation
        self._options = mujoco.MjvOption()
        self._options.geomgroup[0] = 0  # collision shapes
        self._options.sitegroup[:] = 0

    def render(self, data: mujoco.MjData) -> np.ndarray:
        """The scene in the state of `data`, (size, size, 3) uint8 RGB."""
        self._renderer.update_scene(data, self._camera, self._options)
        return self._renderer.render()

    def intrinsics(self) -> np.ndarray:
        """Pinhole matrix K (3, 3) [pixels], no distortion."""
        focal = 0.5 * self.size / np.tan(np.radians(self.fov) / 2)
        centre = (self.size - 1) / 2
        return np.array([[focal, 0, centre], [0, focal, centre], [0, 0, 1.0]])

    def pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and rotation (3, 3) of the optical frame (z forward, x right, y down) in the world."""
        azimuth, elevation = np.radians(self._camera.azimuth), np.radians(self._camera.elevation)
        forward = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0.0])
        down = np.cross(forward, right)
        return self._camera.lookat - self._camera.distance * forward, np.stack([right, down, forward], axis=1)

    def close(self) -> None:
        """Free what rendering holds."""
        self._renderer.close()

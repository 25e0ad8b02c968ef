// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.0;

contract Counter {
    uint256 public count;

    function add(uint256 amount) external {
        count += amount;
    }
}
